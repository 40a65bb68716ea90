"""Intervals are those of Student's law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dsdq.sim.statistics import interval, mean, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 29, 30, 99, 1000])
def test_the_quantile_is_that_of_scipy(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_the_interval_is_that_of_scipy() -> None:
    values = [3.1, 2.7, 4.4, 3.9, 2.2]
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx(expected)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    luck = np.random.default_rng(7)
    found = [interval(luck.normal(5, 2, 4).tolist()) for _ in range(2000)]
    held = sum(within is not None and within[0] < 5 < within[1] for within in found)
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_what_is_no_number_is_left_out() -> None:
    assert mean([1.0, math.nan, 3.0]) == 2
    assert interval([1.0, math.nan, 3.0]) == interval([1.0, 3.0])
    assert math.isnan(mean([math.nan]))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_fewer_than_two_values_have_no_interval(values: list[float]) -> None:
    assert interval(values) is None
