from __future__ import annotations

import numpy as np
import pytest

from dsdq import sampling
from dsdq.contract import Contract, Rule, Sampling
from producers.drafters.picker import AHEAD_VOCAB, Picker

SAMPLINGS = [Sampling(), Sampling(0.8), Sampling(1.0, top_k=30, top_p=0.9)]


def contract(chosen: Sampling, **changed: object) -> Contract:
    return Contract("t", "p", "s", "m", "f", sampling=chosen, seed=99, choice=2, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("chosen", SAMPLINGS, ids=str)
def test_with_the_targets_logits_the_pick_is_the_targets_choice_at_any_position(chosen: Sampling) -> None:
    logits = np.random.default_rng(1).normal(scale=2, size=(60, 500)).astype(np.float32)
    wanted = sampling.choose(logits, chosen, 99, 100, 2).tolist()
    picker = Picker(contract(chosen))
    order = [*range(60), *range(40, 50), 3, 59, 0]
    assert [picker.pick(logits[place], 100 + place) for place in order] == [wanted[place] for place in order]


@pytest.mark.parametrize("chosen", SAMPLINGS, ids=str)
def test_over_a_large_vocabulary_the_pick_is_nearly_always_the_targets_choice(chosen: Sampling) -> None:
    logits = np.random.default_rng(2).normal(scale=4, size=(30, AHEAD_VOCAB + 1)).astype(np.float32)
    wanted = sampling.choose(logits, chosen, 99, 0, 2).tolist()
    picker = Picker(contract(chosen))
    assert sum(picker.pick(row, place) == wanted[place] for place, row in enumerate(logits)) >= 27


def test_under_the_rejection_rule_the_pick_is_drawn_from_the_law_that_is_reported() -> None:
    logits = np.zeros(100, dtype=np.float32)
    logits[7] = 50
    picker = Picker(contract(Sampling(1.0), rule=Rule.REJECTION, trusted=True))
    assert [picker.pick(logits, position) for position in range(5)] == [7] * 5
    proposal = picker.take()
    assert proposal.tokens == (7,) * 5
    assert proposal.law is not None
    assert len(proposal.law.ids) == 5
    assert picker.take().tokens == ()
