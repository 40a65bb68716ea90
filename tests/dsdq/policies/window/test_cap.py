from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.policies.window import paying_window, widest_window


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
