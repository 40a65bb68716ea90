"""Processors, choices and laws: what they keep, that numpy and torch agree, and that draws follow the law."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from dsdq import sampling
from dsdq.contract import Sampling

VOCAB = 300
DRAWS = 20_000
SEED = 20_261_124
LEAST_P = 0.001
SAMPLINGS = [
    Sampling(temperature, **options)
    for temperature, options in itertools.product(
        (0.7, 1.0), ({}, {"top_k": 40}, {"top_p": 0.9}, {"top_k": 50, "top_p": 0.95}, {"min_p": 0.05})
    )
]
IDS = [f"T={s.temperature} k={s.top_k} p={s.top_p} min_p={s.min_p}" for s in SAMPLINGS]


def logits(rows: int = 1, seed: int = SEED) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2.5, size=(rows, VOCAB)).astype(np.float32)


def fits(draws: np.ndarray, law: np.ndarray) -> float:
    """Return chi-square's p for draws against a law; what is expected fewer than five times is put together."""
    expected = law * len(draws)
    counted = np.bincount(draws, minlength=len(law)).astype(float)
    assert counted[expected == 0].sum() == 0, "a token was drawn that the law excludes"
    rare = (expected < 5) & (expected > 0)
    common = expected >= 5
    seen, wanted = counted[common].tolist(), expected[common].tolist()
    if expected[rare].sum() >= 5:
        seen.append(counted[rare].sum())
        wanted.append(expected[rare].sum())
    else:
        seen[0] += counted[rare].sum()
        wanted[0] += expected[rare].sum()
    assert len(seen) > 1, "a law of one token tests nothing"
    return float(chisquare(seen, wanted).pvalue)


@pytest.mark.parametrize("chosen", SAMPLINGS, ids=IDS)
def test_20_000_choices_under_the_noise_follow_the_targets_law(chosen: Sampling) -> None:
    row = logits()
    draws = sampling.choose(np.repeat(row, DRAWS, axis=0), chosen, SEED, 0, 0)
    assert fits(draws, sampling.law(row, chosen)[0]) > LEAST_P


@pytest.mark.parametrize("chosen", SAMPLINGS, ids=IDS)
def test_numpy_and_torch_choose_the_same_tokens(chosen: Sampling) -> None:
    values = logits(rows=64)
    ours = sampling.choose(values, chosen, 5, 100, 1)
    theirs = sampling.choose(torch.from_numpy(values), chosen, 5, 100, 1)
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("chosen", [Sampling(), *SAMPLINGS], ids=["greedy", *IDS])
def test_rows_taken_some_at_a_time_give_the_same_tokens(chosen: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.from_numpy(logits(rows=30))
    values[3, 7:9] = values.max() + 1  # a tie
    seeds = torch.tensor([5, -1, 2**62])[torch.arange(30) % 3]
    whose = seeds, torch.arange(100, 130), torch.arange(30) % 2

    def choose() -> list[int]:
        return (sampling.argmax(values) if chosen.greedy else sampling.choose_rows(values, chosen, *whose)).tolist()

    whole = choose()
    for bytes_ in (1, 7 * VOCAB * 96, 7 * VOCAB * 16):
        monkeypatch.setattr(sampling, "CHUNK_BYTES", bytes_)
        assert choose() == whole
    alone = [
        sampling.choose(values[row : row + 1].numpy(), chosen, int(whose[0][row]) % 2**64, 100 + row, row % 2)
        for row in range(30)
    ]
    assert whole == [int(one[0]) for one in alone]


def test_pruning_changes_no_choice() -> None:
    from dsdq import noise

    values = logits(rows=200) * 6  # peaked, so that pruning has something to leave out
    chosen = Sampling(1.0)
    whole = sampling.scores(values, chosen) + noise.gumbel(9, np.arange(3, 203), np.arange(VOCAB), 0)
    assert sampling.choose(values, chosen, 9, 3, 0).tolist() == whole.argmax(axis=-1).tolist()


def test_choosing_rows_together_or_one_by_one_is_the_same() -> None:
    values = logits(rows=20)
    chosen = Sampling(0.8, top_k=60)
    together = sampling.choose(values, chosen, 1, 50, 0).tolist()
    assert together == [int(sampling.choose(values[i : i + 1], chosen, 1, 50 + i, 0)[0]) for i in range(20)]


def test_a_device_that_looks_at_its_likeliest_tokens_chooses_as_if_it_had_looked_at_all() -> None:
    values = logits(rows=100)
    chosen = Sampling(1.0)
    whole = sampling.choose(values, chosen, 2, 0, 0).tolist()
    quick = [sampling.choose_on_device(row, chosen, 2, place, 0) for place, row in enumerate(values)]
    assert sum(a == b for a, b in zip(whole, quick, strict=True)) >= 98


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_ties_go_to_the_lowest_id(make: object) -> None:
    values = np.zeros((2, 10), dtype=np.float32)
    values[1, [4, 7]] = 1
    assert [int(token) for token in sampling.argmax(make(values))] == [0, 4]  # type: ignore[operator]


def test_top_k_keeps_k_tokens_even_when_logits_are_equal() -> None:
    kept = sampling.scores(np.zeros((1, 10), dtype=np.float32), Sampling(1.0, top_k=3))
    assert np.flatnonzero(np.isfinite(kept[0])).tolist() == [0, 1, 2]


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    row = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], dtype=np.float64)).astype(np.float32)
    for top_p, kept in ((0.4, 1), (0.6, 2), (0.85, 3), (0.99, 4)):
        assert np.isfinite(sampling.scores(row, Sampling(1.0, top_p=top_p))).sum() == kept


def test_min_p_keeps_what_is_likely_enough_beside_the_best() -> None:
    row = np.log(np.array([[0.6, 0.3, 0.08, 0.02]], dtype=np.float64)).astype(np.float32)
    assert np.isfinite(sampling.scores(row, Sampling(1.0, min_p=0.1))).sum() == 3


def test_a_greedy_law_is_a_point_mass() -> None:
    values = logits(rows=3)
    law = sampling.law(values, Sampling())
    assert law.sum(axis=-1).tolist() == [1, 1, 1]
    assert law.argmax(axis=-1).tolist() == values.argmax(axis=-1).tolist()


@pytest.mark.parametrize("chosen", [Sampling(0.7, top_p=0.9), Sampling(1.0), Sampling()], ids=str)
def test_the_reported_law_is_exact_and_close_to_the_draft(chosen: Sampling) -> None:
    row = logits()[0]
    reported = sampling.truncated_law(row, chosen)
    dense = sampling.dense(reported, 0, VOCAB, row)
    assert dense.sum() == pytest.approx(1, abs=1e-12)
    assert reported.ids.shape[1] <= 64
    assert np.abs(dense - sampling.law(row[None], chosen)[0]).sum() < 0.5


def test_ids_that_the_target_lacks_are_left_out_of_a_law() -> None:
    from dsdq.laws import DraftLaw

    law = DraftLaw(np.array([[1, 900]], dtype=np.uint32), np.array([[1, 3]], dtype=np.uint16))
    dense = sampling.dense(law, 0, 10, np.zeros(1))
    assert dense.tolist() == [0, 0.25, *[0] * 8]


@pytest.mark.parametrize("uniform", [2.0**-33, 0.25, 0.5, 1 - 2.0**-33])
def test_a_draw_never_lands_on_a_weight_of_zero(uniform: float) -> None:
    weights = np.array([0, 1, 0, 1, 0], dtype=np.float64)
    assert weights[sampling.draw(weights, uniform)] == 1
