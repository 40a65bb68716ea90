"""Axes: where values lie, and which are written."""

from __future__ import annotations

import math

import pytest

from dsdq.sim.report.axes import Axis, linear, spread, written


def test_values_lie_between_the_ends() -> None:
    axis = Axis(0.0, 10.0, 100.0, 300.0)
    assert [axis.place(value) for value in (0.0, 2.5, 10.0)] == [100, 150, 300]
    assert [axis.place(value) for value in (-5.0, 99.0)] == [100, 300]  # nothing is drawn beside the picture


def test_a_logarithmic_axis_gives_each_decade_the_same_room() -> None:
    axis = Axis(1.0, 1000.0, 0.0, 300.0, log=True)
    assert [axis.place(value) for value in (1.0, 10.0, 100.0, 1000.0)] == pytest.approx([0, 100, 200, 300])
    assert axis.place(0.0) == 0


@pytest.mark.parametrize(
    ("values", "low", "high", "ticks"),
    [
        ([3.0, 87.0], 0, 100, [0, 20, 40, 60, 80, 100]),
        ([0.2, 0.9], 0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([-4.0, 11.0], -5, 15, [-5, 0, 5, 10, 15]),
        ([0.0, 0.0], 0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([], 0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([math.nan, math.inf, 2860.0], 0, 3000, [0, 1000, 2000, 3000]),
    ],
)
def test_a_linear_axis_has_0_and_round_ends(values: list[float], low: float, high: float, ticks: list[float]) -> None:
    axis = linear(values, 0.0, 100.0)
    assert (axis.low, axis.high) == pytest.approx((low, high))
    assert axis.ticks() == pytest.approx(ticks)


def test_what_lies_far_apart_is_drawn_logarithmically() -> None:
    assert spread([10.0, 201.0], 0.0, 1.0).log
    assert not spread([10.0, 199.0], 0.0, 1.0).log
    assert not spread([0.0, 10.0, 2000.0], 0.0, 1.0).log  # 0 has no logarithm
    assert not spread([10.0, 2000.0], 0.0, 1.0, wide=math.inf).log
    assert not spread([], 0.0, 1.0).log


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (7.0, 130.0, [10, 20, 50, 100]),
        (30.0, 20_000.0, [30, 100, 300, 1000, 3000, 10_000]),
        (1.0, 1e6, [1, 100, 1e4, 1e6]),
        (0.8, 1.25, [0.8, 0.9, 1.0, 1.1, 1.2]),
    ],
)
def test_logarithmic_ticks_are_few_and_round(low: float, high: float, ticks: list[float]) -> None:
    assert Axis(low, high, 0.0, 1.0, log=True).ticks() == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.25"), (9000.0, "9000"), (12_500.0, "12.5k"), (3e6, "3M"), (2e9, "2G"), (-2e4, "-20k")]
)
def test_ticks_are_written_shortly(value: float, text: str) -> None:
    assert written(value) == text
