"""Laws whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dsdq.alignment.laws import distances
from dsdq.contract import Sampling

PLAIN = Sampling(1.0)


def logits(*laws: list[float]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        return np.log(np.array(laws)).astype(np.float32)


def test_a_draft_that_is_the_target_is_at_no_distance() -> None:
    same = np.random.default_rng(0).normal(size=(100, 50)).astype(np.float32)
    for chosen in (PLAIN, Sampling(), Sampling(0.7, top_k=5, top_p=0.8)):
        found = distances(same, same, chosen)
        assert found.tv == pytest.approx(np.zeros(100), abs=1e-12)
        assert found.kl == pytest.approx(np.zeros(100), abs=1e-12)
        assert found.overlap == pytest.approx(np.ones(100))
        assert found.coupled_least == pytest.approx(np.ones(100))
        assert found.agrees.all()


def test_distances_are_what_their_definitions_say() -> None:
    found = distances(logits([0.5, 0.3, 0.2], [1.0, 0.0, 0.0]), logits([0.2, 0.3, 0.5], [0.0, 0.5, 0.5]), PLAIN)
    assert found.tv == pytest.approx([0.3, 1.0])
    assert found.kl == pytest.approx([0.5 * np.log(2.5) + 0.2 * np.log(0.4), np.inf])
    assert found.overlap == pytest.approx([0.7, 0.0])
    assert found.coupled_least == pytest.approx([0.7 / 1.3, 0.0])
    assert found.agrees.tolist() == [False, False]


def test_greedy_laws_are_compared_at_temperature_1_but_accepted_as_point_masses() -> None:
    found = distances(logits([0.6, 0.4], [0.6, 0.4]), logits([0.9, 0.1], [0.4, 0.6]), Sampling())
    assert found.tv == pytest.approx([0.3, 0.2])
    assert found.overlap.tolist() == [1.0, 0.0]


def test_processors_change_what_is_accepted_and_not_how_far_the_models_are_apart() -> None:
    target, draft = logits([0.5, 0.3, 0.2]), logits([0.5, 0.2, 0.3])
    found = distances(target, draft, Sampling(1.0, top_k=2))
    assert found.tv == pytest.approx([0.1])
    assert found.overlap == pytest.approx([5 / 8])


def test_a_vocabulary_that_one_of_them_pads_counts_as_what_nobody_drafts() -> None:
    found = distances(logits([0.5, 0.4, 0.1]), logits([0.5, 0.5]), PLAIN)
    assert found.overlap == pytest.approx([0.9])
    assert np.isfinite(found.kl).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 3.0))
def test_pinsker_holds_whatever_the_laws(seed: int, temperature: float) -> None:
    one, other = np.random.default_rng(seed).normal(size=(2, 5, 40)).astype(np.float32)
    found = distances(one, other, Sampling(temperature))
    assert (found.tv <= np.sqrt(found.kl / 2) + 1e-12).all()
    assert found.overlap == pytest.approx(1 - found.tv)
