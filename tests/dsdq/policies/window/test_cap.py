from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.policies.window import (
    Acceptance,
    DraftCost,
    StepCost,
    best_window,
    paying_window,
    shared_windows,
    widest_window,
)


def test_all_who_wait_fit_one_step() -> None:
    assert widest_window(step_tokens=64, waiting=4, agreed=32) == 15
    assert widest_window(step_tokens=64, waiting=200, agreed=32) == 1
    assert widest_window(step_tokens=64, waiting=0, agreed=32) == 32


def per_token_ms(step_ms: float, position_ms: float, rows: int, acceptance: float, window: int) -> float:
    committed = sum(acceptance**place for place in range(window + 1))
    return (step_ms + position_ms * rows * (window + 1)) / committed


@given(st.floats(0.0, 50.0), st.floats(0.01, 5.0), st.integers(1, 256), st.floats(0.0, 0.99), st.integers(1, 64))
def test_no_window_within_the_cap_serves_slower_than_decoding_alone(
    step_ms: float, position_ms: float, rows: int, acceptance: float, agreed: int
) -> None:
    cap = paying_window(step_ms, position_ms, rows, acceptance, agreed)
    alone = per_token_ms(step_ms, position_ms, rows, acceptance, 0)
    assert 0 <= cap <= agreed
    for window in range(1, cap + 1):
        assert per_token_ms(step_ms, position_ms, rows, acceptance, window) <= alone * (1 + 1e-9)
    if cap < agreed:
        assert per_token_ms(step_ms, position_ms, rows, acceptance, cap + 1) >= alone * (1 - 1e-9)


def test_the_more_rows_the_narrower() -> None:
    caps = [paying_window(12, 0.7, rows, 0.7, 64) for rows in (1, 4, 16, 64, 256)]
    assert caps == sorted(caps, reverse=True)
    assert caps[0] > 4
    assert caps[-1] == 0


@pytest.mark.parametrize("acceptance", [0.0, 0.5])
def test_where_positions_are_all_that_a_step_costs_nothing_pays(acceptance: float) -> None:
    assert paying_window(0, 1, 64, acceptance, 64) == 0


@given(st.floats(0.0, 50.0), st.floats(0.01, 5.0), st.floats(0.0, 5.0), st.floats(0.0, 0.99), st.integers(0, 64))
def test_no_other_window_of_its_own_serves_faster(
    step_ms: float, position_ms: float, draft_ms: float, acceptance: float, most: int
) -> None:
    def each_ms(window: int) -> float:
        return per_token_ms(step_ms, position_ms, 1, acceptance, window) + draft_ms * window / sum(
            acceptance**place for place in range(window + 1)
        )

    best = best_window(step_ms, position_ms, draft_ms, acceptance, most)
    assert each_ms(best) <= min(map(each_ms, range(most + 1))) * (1 + 1e-9)


def test_where_nothing_takes_any_time_it_drafts_all_that_is_asked_for() -> None:
    assert best_window(0, 0, 0, 0.5, 8) == 8


@given(
    st.floats(0.5, 50.0),
    st.floats(0.01, 2.0),
    st.lists(st.integers(1, 600), min_size=2, max_size=8).filter(lambda sizes: max(sizes) - min(sizes) > 20),
    st.integers(0, 1000),
)
def test_steps_of_different_sizes_tell_what_a_step_and_a_position_take(
    step_ms: float, position_ms: float, sizes: list[int], seed: int
) -> None:
    cost, source = StepCost(), random.Random(seed)
    for positions in source.choices(sizes, k=300):
        cost.add(positions, step_ms + position_ms * positions)
    for positions in (min(sizes), max(sizes)):
        expected = step_ms + position_ms * positions
        assert cost.step_ms + cost.position_ms * positions == pytest.approx(
            expected, rel=0.15, abs=0.01 * max(sizes) * position_ms
        )


def test_steps_that_are_all_alike_leave_a_position_at_its_usual_share() -> None:
    cost = StepCost()
    for _ in range(100):
        cost.add(5, 10.0)
    assert cost.step_ms + 5 * cost.position_ms == pytest.approx(10.0)
    assert cost.position_ms == pytest.approx(0.03 * cost.step_ms)


def test_one_step_that_waited_for_something_else_changes_little() -> None:
    cost = StepCost()
    for positions in (5, 9) * 50:
        cost.add(positions, 8 + 0.2 * positions)
    before = cost.step_ms + 7 * cost.position_ms
    cost.add(9, 500.0)
    assert cost.step_ms + 7 * cost.position_ms < 1.1 * before


def test_the_first_steps_say_nothing_of_the_rest() -> None:
    cost = StepCost()
    for positions, took_ms in ((130, 20_000.0), (60, 500.0), (30, 90.0), (30, 40.0)):
        cost.add(positions, took_ms)
    assert cost.surely() == (0, 0)
    for positions in (4, 16) * 10:
        cost.add(positions, 8 + 0.2 * positions)
    assert cost.position_ms == pytest.approx(0.2, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 600), st.floats(0.1, 500)), min_size=5, max_size=200))
def test_what_a_position_surely_takes_is_no_more_than_what_it_seems_to_take_and_steps_stay_as_long(
    steps: list[tuple[int, float]],
) -> None:
    cost = StepCost()
    for positions, took_ms in steps:
        cost.add(positions, took_ms)
    step_ms, position_ms = cost.surely()
    assert 0 <= position_ms <= cost.position_ms
    assert step_ms >= cost.step_ms - 1e-6


def test_the_better_steps_agree_the_surer_it_is_what_a_position_takes() -> None:
    even, uneven = StepCost(), StepCost()
    for turn in range(60):
        positions = (9, 18, 27)[turn % 3]
        even.add(positions, 20 + 0.2 * positions + (-1) ** turn)
        uneven.add(positions, 20 + 0.2 * positions + 8 * (-1) ** turn)
    assert even.surely()[1] == pytest.approx(0.2, abs=0.05)
    assert uneven.surely()[1] < 0.1


def test_what_may_well_stand_comes_near_what_does_as_rounds_are_seen() -> None:
    acceptance = Acceptance()
    assert acceptance.hoped > 0.8
    margins = []
    for _ in range(20):
        acceptance.add(drafted=4, accepted=2, committed=3)
        margins.append(acceptance.hoped - acceptance.mean)
    assert margins == sorted(margins, reverse=True)
    assert 0 < margins[-1] < margins[0] / 2


@given(
    st.floats(1.0, 50.0),
    st.floats(0.01, 5.0),
    st.floats(0.0, 20.0),
    st.floats(0.0, 1.0),
    st.integers(1, 99),
    st.floats(0, 0.99),
)
def test_for_one_tenant_draft_passes_go_as_far_as_is_best_for_a_session_with_its_share_of_them(
    step_ms: float, position_ms: float, pass_ms: float, row_ms: float, rows: int, acceptance: float
) -> None:
    found = shared_windows((step_ms, position_ms), (pass_ms, row_ms), {"t": (rows, acceptance)}, 32)["t"]
    shares = step_ms / rows, position_ms, pass_ms / rows + row_ms
    best, alike = (best_window(*shares, one, 32) for one in (acceptance, acceptance * (1 - 1e-9)))
    assert found in {best, alike}


def test_whose_drafts_do_not_stand_neither_goes_along_nor_keeps_passes_from_others() -> None:
    windows = shared_windows((48, 0.23), (3, 0.01), {"good": (15, 0.9), "fair": (10, 0.6), "bad": (15, 0.001)}, 32)
    assert windows["good"] > windows["fair"] > windows["bad"] == 0


def test_acceptance_follows_what_stands_and_hopes_again_where_nothing_is_drafted() -> None:
    acceptance = Acceptance()
    for _ in range(30):
        acceptance.add(drafted=4, accepted=0, committed=1)
    assert acceptance.mean < 0.1
    for _ in range(300):
        acceptance.add(drafted=0, accepted=0, committed=1)
    assert acceptance.mean > 0.5
    for _ in range(30):
        acceptance.add(drafted=4, accepted=4, committed=5)
    assert 0.85 < acceptance.mean <= 1


def test_a_draft_pass_is_learned_behind_the_first_shared_by_its_rows_and_forgotten_where_nothing_is_drafted() -> None:
    cost = DraftCost()
    cost.add(4, 4, 900.0)
    assert cost.share_ms(1) == 0
    for rows in (4, 16) * 20:
        cost.add(4 * rows, 4, 4 * (2 + 0.1 * rows))
    assert cost.share_ms(4) == pytest.approx(0.6, rel=0.1)
    assert cost.share_ms(16) == pytest.approx(0.225, rel=0.1)
    cost.add(16 * 60 + 48, 4, 4 * 2 + 0.1 * (16 * 60 + 48))  # sixteen that were not drafted for since sixty tokens
    assert cost.share_ms(16) == pytest.approx(0.225, rel=0.1)
    cost.add(16, 4, 900.0)
    assert cost.share_ms(4) < 0.7
    for _ in range(300):
        cost.add(0, 0, 0.0)
    assert cost.share_ms(4) < 0.05
