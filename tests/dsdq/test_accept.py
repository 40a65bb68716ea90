"""What stands of a draft: the coupled rule gives the target's own text, the ratio test gives its distribution."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsdq import accept, noise, sampling
from dsdq.contract import Sampling
from dsdq.laws import DraftLaw
from dsdq.noise import Purpose
from tests.dsdq.test_sampling import DRAWS, LEAST_P, SEED, VOCAB, fits, logits

IDS = st.lists(st.integers(0, 5), max_size=8)


@given(IDS, IDS.filter(bool))
def test_coupled_gives_the_targets_choices_up_to_the_first_that_was_not_drafted(
    drafted: list[int], chosen: list[int]
) -> None:
    drafted = drafted[: len(chosen) - 1]
    chosen = chosen[: len(drafted) + 1]
    result = accept.coupled(drafted, chosen)
    assert result.tokens == tuple(chosen[: result.accepted + 1])
    assert list(drafted[: result.accepted]) == chosen[: result.accepted]
    assert result.accepted == len(drafted) or drafted[result.accepted] != chosen[result.accepted]


def coins(seed: int) -> accept.Coins:
    return lambda positions, purpose: noise.uniforms(seed, positions, 0, purpose)


def drawn(law: DraftLaw, source: random.Random) -> int:
    return int(law.ids[0, sampling.draw(law.weights[0].astype(float), source.random())])


@pytest.mark.parametrize(
    "chosen",
    [Sampling(0.7), Sampling(1.0), Sampling(0.7, top_k=40, top_p=0.9), Sampling(1.0, top_k=50, top_p=0.95)],
    ids=str,
)
def test_20_000_draws_through_the_ratio_test_follow_the_targets_law(chosen: Sampling) -> None:
    target, draft = logits(), logits(seed=SEED + 1) * 0.5 + logits() * 0.5
    law = np.repeat(sampling.law(target, chosen), 2, axis=0)
    source, reported = random.Random(SEED), sampling.truncated_law(draft[0], chosen)
    draws = np.empty(DRAWS, dtype=np.int64)
    for number in range(DRAWS):
        draws[number] = accept.rejection([drawn(reported, source)], reported, law, 0, coins(number)).tokens[0]
    assert fits(draws, law[0]) > LEAST_P


def test_the_token_after_an_accepted_one_follows_its_own_law() -> None:
    chosen = Sampling(1.0)
    target = np.concatenate([logits(), logits(seed=3)])
    law = sampling.law(target, chosen)
    source, reported = random.Random(SEED), sampling.truncated_law(target[0], chosen)
    seconds = []
    for number in range(DRAWS):
        result = accept.rejection([drawn(reported, source)], reported, law, 0, coins(number))
        if result.accepted:
            seconds.append(result.tokens[1])
    assert len(seconds) > DRAWS / 2
    assert fits(np.array(seconds), law[1]) > LEAST_P


def test_an_id_that_the_target_does_not_have_is_rejected_without_bending_the_law() -> None:
    law = np.array([[0.5, 0.5]])
    reported = DraftLaw(np.array([[0, 7]], dtype=np.uint32), np.array([[1, 1]], dtype=np.uint16))
    source = random.Random(SEED)
    draws = [
        accept.rejection([source.choice((0, 7))], reported, _rows(law), 0, coins(n)).tokens[0] for n in range(DRAWS)
    ]
    assert fits(np.array(draws), law[0]) > LEAST_P


def _rows(law: np.ndarray) -> np.ndarray:
    """Return rows for a token that may be accepted: the next one is never looked at here."""
    return np.repeat(law, 2, axis=0)


def test_numpy_and_torch_accept_alike() -> None:
    chosen = Sampling(0.9)
    source = random.Random(1)
    for number in range(200):
        target = logits(rows=3, seed=number)
        draft = logits(rows=2, seed=number) + logits(rows=2, seed=number + 999)
        laws = [sampling.truncated_law(row, chosen) for row in draft]
        reported = sampling.stack(laws)
        assert reported is not None
        tokens = [drawn(law, source) for law in laws]
        ours = accept.rejection(tokens, reported, sampling.law(target, chosen), 5, coins(number))
        law = sampling.law(torch.from_numpy(target), chosen)
        assert accept.rejection(tokens, reported, law, 5, coins(number)) == ours


def test_coins_of_one_position_differ_by_purpose() -> None:
    coin = coins(7)
    assert len({float(coin(np.array([3]), purpose)[0]) for purpose in Purpose}) == len(Purpose)


# A device that lies

WANTED = 17


def false_report(window: int) -> tuple[Sequence[int], DraftLaw]:
    """Draft one token for ever and claim to have had almost no chance of drawing it."""
    ids = np.tile(np.array([WANTED, WANTED + 1], dtype=np.uint32), (window, 1))
    weights = np.tile(np.array([1, 65_535], dtype=np.uint16), (window, 1))
    return [WANTED] * window, DraftLaw(ids, weights)


def test_a_false_law_controls_a_verifier_that_believes_it() -> None:
    chosen = Sampling(1.0)
    target = np.zeros((5, VOCAB), dtype=np.float32)  # the target itself would say it once in 300 times
    tokens, reported = false_report(4)
    said = [
        accept.rejection(tokens, reported, sampling.law(target, chosen), 0, coins(n)).accepted == 4 for n in range(100)
    ]
    assert all(said), "believing q, the ratio test lets the device write what it likes: hence the rule needs trust"


def test_under_the_coupled_rule_the_same_device_changes_nothing() -> None:
    chosen = Sampling(1.0)
    target = logits(rows=5)
    tokens, _ = false_report(4)
    for seed in range(100):
        own = [int(token) for token in sampling.choose(target, chosen, seed, 0, 0)]
        result = accept.coupled(tokens, own)
        assert result.tokens == tuple(own[: len(result.tokens)])
