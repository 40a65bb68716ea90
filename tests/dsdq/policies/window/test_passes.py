from __future__ import annotations

import random

import pytest

from dsdq.policies.window.passes import SHORTEST_MS, Passes


@pytest.mark.parametrize(("step_ms", "position_ms"), [(10, 0.7), (20, 0.05), (5, 0.0)])
def test_a_pass_is_told_apart_into_what_is_fixed_and_what_a_position_takes(step_ms: float, position_ms: float) -> None:
    forward, rng = Passes(), random.Random(3)
    for _ in range(60):
        positions = rng.choice([1, 5, 9, 13])
        forward.add(positions, step_ms + position_ms * positions)
    assert forward.ms(1) == pytest.approx(step_ms + position_ms, rel=0.03)
    assert forward.ms(13) == pytest.approx(step_ms + 13 * position_ms, rel=0.03)


def test_load_that_makes_all_passes_longer_is_believed_after_two() -> None:
    forward = Passes()
    for _ in range(30):
        forward.add(5, 15)
        forward.add(1, 11)
    forward.add(5, 60)
    forward.add(5, 60)
    assert forward.ms(5) == pytest.approx(60, rel=0.05)
    assert forward.ms(1) == pytest.approx(44, rel=0.1)


def took_ms(positions: int, own: int) -> float:
    return 30 + 0.3 * positions + own


def test_what_devices_draft_for_tells_what_drafting_costs_a_verifier_that_never_changes_its_window() -> None:
    passes = Passes()
    for positions in [9, 5, 13] * 5:
        passes.add(positions, took_ms(positions, 0))
    for _ in range(20):
        passes.add(5, took_ms(5, 4), own=4)
    assert passes.own_ms == pytest.approx(1, abs=0.2)
    assert passes.ms(11, 10) == pytest.approx(took_ms(11, 10), rel=0.03)


def test_what_the_verifier_drafts_tells_what_a_pass_takes_without() -> None:
    passes = Passes()
    for own in [2, 6, 0, 8] * 5:
        passes.add(own + 1, took_ms(own + 1, own), own)
    assert passes.ms(1) == pytest.approx(took_ms(1, 0), rel=0.03)
    assert passes.position_ms + passes.own_ms == pytest.approx(1.3, abs=0.1)


def test_a_first_pass_says_nothing_of_how_it_is_made_up() -> None:
    passes = Passes()
    passes.add(9, took_ms(9, 8), own=8)
    assert passes.ms(9, 8) == pytest.approx(took_ms(9, 8))
    passes.add(1, took_ms(1, 0))
    assert passes.ms(1) == pytest.approx(took_ms(1, 0), rel=0.05)


def test_a_pass_that_took_no_time_leaves_rates_finite() -> None:
    passes = Passes()
    for _ in range(10):
        passes.add(5, 0.0)
        assert passes.known
        assert passes.ms(5) >= 0.2 * SHORTEST_MS
