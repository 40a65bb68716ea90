from __future__ import annotations

import random

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.fitting import Pass, fit_steps

SEED = 7


def passes(step_ms: float, row_ms: float, position_ms: float, noise_ms: float = 0.0) -> list[Pass]:
    luck = random.Random(SEED)
    return [
        Pass(rows, rows * width, step_ms + rows * (row_ms + width * position_ms) + luck.gauss(0.0, noise_ms))
        for rows in (1, 2, 4, 8)
        for width in (1, 4, 9)
        for _ in range(20)
    ]


def test_exact_times_are_found_again() -> None:
    found = fit_steps(passes(30.0, 0.5, 0.25))
    assert (found.step_ms, found.row_ms, found.position_ms) == pytest.approx((30.0, 0.5, 0.25))
    assert found.error_ms == pytest.approx(0.0, abs=1e-9)
    assert found.passes == 240


def test_noise_is_reported_and_hardly_moves_what_is_found() -> None:
    found = fit_steps(passes(30.0, 0.5, 0.25, noise_ms=1.0))
    assert found.step_ms == pytest.approx(30.0, rel=0.02)
    assert found.position_ms == pytest.approx(0.25, rel=0.1)
    assert found.error_ms == pytest.approx(1.0, rel=0.15)
    assert 0.015 < found.error_share < 0.035


def test_a_term_that_would_be_negative_is_left_out() -> None:
    falling = [Pass(1.0, width, 30.0 - 0.1 * width) for width in (1.0, 5.0, 9.0)]
    found = fit_steps(falling)
    assert (found.row_ms, found.position_ms) == (0.0, 0.0)
    assert found.step_ms == pytest.approx(29.5)


def test_what_the_passes_do_not_tell_apart_is_put_on_the_step() -> None:
    found = fit_steps([Pass(1.0, 5.0, 31.0)] * 3)
    assert (found.step_ms, found.row_ms, found.position_ms) == (pytest.approx(31.0), 0.0, 0.0)


def test_no_pass_is_an_error() -> None:
    with pytest.raises(ConfigError, match="expected at least one pass"):
        fit_steps([])
