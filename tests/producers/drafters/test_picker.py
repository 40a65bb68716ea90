from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsdq import sampling
from dsdq.contract import Contract, Rule, Sampling
from dsdq.penalties import adjusted
from producers.drafters.picker import AHEAD_VOCAB, Picker

SAMPLINGS = [Sampling(), Sampling(0.8), Sampling(1.0, top_k=30, top_p=0.9)]
ADJUSTED = [
    replace(chosen, repetition_penalty=1.3, presence_penalty=0.6, frequency_penalty=0.4, logit_bias=((3, 2.0),))
    for chosen in SAMPLINGS
]
PROMPT_TOKENS = 100


def contract(chosen: Sampling, **changed: object) -> Contract:
    return Contract("t", "p", "s", "m", "f", sampling=chosen, seed=99, choice=2, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("chosen", SAMPLINGS, ids=str)
def test_with_the_targets_logits_the_pick_is_the_targets_choice_at_any_position(chosen: Sampling) -> None:
    logits = np.random.default_rng(1).normal(scale=2, size=(60, 500)).astype(np.float32)
    wanted = sampling.choose(logits, chosen, 99, 100, 2).tolist()
    picker = Picker(contract(chosen))
    order = [*range(60), *range(40, 50), 3, 59, 0]
    texts = [[0] * (100 + place) for place in order]
    picked = [picker.pick(logits[place], text, PROMPT_TOKENS) for place, text in zip(order, texts, strict=True)]
    assert picked == [wanted[place] for place in order]


@pytest.mark.parametrize("chosen", ADJUSTED, ids=str)
@pytest.mark.parametrize("vocab", [500, AHEAD_VOCAB + 1])
def test_the_pick_is_the_targets_choice_after_the_text_and_the_window_so_far(chosen: Sampling, vocab: int) -> None:
    rows = np.random.default_rng(3).normal(scale=6, size=(1, vocab)).repeat(8, axis=0).astype(np.float32)
    picker, text = Picker(contract(chosen)), [*range(PROMPT_TOKENS), 3, 3, 200, 201]
    window: list[int] = []
    for row in rows:
        window.append(picker.pick(row, text + window, PROMPT_TOKENS))
    after = adjusted(rows, chosen, text, PROMPT_TOKENS, window[:-1])
    assert window == sampling.choose(after, chosen, 99, len(text), 2).tolist()
    assert len(set(window)) > 1, "the penalties have moved nothing"


@pytest.mark.parametrize("chosen", SAMPLINGS, ids=str)
def test_over_a_large_vocabulary_the_pick_is_nearly_always_the_targets_choice(chosen: Sampling) -> None:
    logits = np.random.default_rng(2).normal(scale=4, size=(30, AHEAD_VOCAB + 1)).astype(np.float32)
    wanted = sampling.choose(logits, chosen, 99, 0, 2).tolist()
    picker = Picker(contract(chosen))
    assert sum(picker.pick(row, [0] * place, 0) == wanted[place] for place, row in enumerate(logits)) >= 27


@pytest.mark.parametrize("chosen", [*SAMPLINGS[1:], ADJUSTED[1]], ids=str)
@pytest.mark.parametrize("vocab", [500, AHEAD_VOCAB + 1])
def test_confidence_is_the_probability_under_the_law_of_sampling(chosen: Sampling, vocab: int) -> None:
    logits = np.random.default_rng(4).normal(scale=4, size=(20, vocab)).astype(np.float32)
    picker = Picker(contract(chosen))
    for place, row in enumerate(logits):
        text = [3, 3, 200, *range(place)]
        token = picker.pick(row, text, 1)
        own = sampling.law(adjusted(row[None], chosen, text, 1, ()), chosen)[0, token]
        assert picker.confidence() == pytest.approx(own, rel=0.02)


def test_confidence_of_a_greedy_pick_is_the_models_own_probability() -> None:
    picker = Picker(contract(Sampling()))
    picker.pick(np.log(np.array([0.1, 0.7, 0.2], dtype=np.float32)), [], 0)
    assert picker.confidence() == pytest.approx(0.7)


def test_confidence_under_the_rejection_rule_is_what_the_law_that_is_reported_says() -> None:
    picker = Picker(contract(Sampling(1.0), rule=Rule.REJECTION, trusted=True))
    token = picker.pick(np.random.default_rng(5).normal(size=500).astype(np.float32), [], 0)
    said = picker.confidence()
    law = picker.take().law
    assert law is not None
    assert said == sampling.probabilities(law, np.array([token]))[0]


def test_under_the_rejection_rule_the_pick_is_drawn_from_the_law_that_is_reported() -> None:
    logits = np.zeros(100, dtype=np.float32)
    logits[7] = 50
    picker = Picker(contract(Sampling(1.0), rule=Rule.REJECTION, trusted=True))
    assert [picker.pick(logits, [0] * position, 0) for position in range(5)] == [7] * 5
    proposal = picker.take()
    assert proposal.tokens == (7,) * 5
    assert proposal.law is not None
    assert len(proposal.law.ids) == 5
    assert picker.take().tokens == ()


def test_under_the_rejection_rule_the_law_that_is_reported_is_the_adjusted_one() -> None:
    logits = np.zeros(100, dtype=np.float32)
    chosen = Sampling(1.0, presence_penalty=2.0, logit_bias=((7, 50.0),))
    picker = Picker(contract(chosen, rule=Rule.REJECTION, trusted=True))
    assert picker.pick(logits, [7, 8], 1) == 7
    law = picker.take().law
    assert law is not None
    assert law == sampling.truncated_law(adjusted(logits[None], chosen, [7, 8], 1, ())[0], chosen)
