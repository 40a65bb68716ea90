"""The best window and depth at given speeds, found without a search at every verdict. Pure.

A search compares all windows and depths by the formulas of :mod:`dsdq.policies.window.rates` and takes about a
millisecond, which is much beside a fast verifier's pass. So what it found is kept while the speeds are near those of
the search: then the rate is known from its derivatives, and another way would hardly be better (at the best one the
rate is flat).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dsdq.policies.window import rates
from dsdq.policies.window.protocol import Choice

WINDOWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64)
NEAR = 0.08
"""So much may what moved since a search change the rate, all changes added up."""
_STEP = 0.01
"""Of a round's time or of the share that is rejected: derivatives are differences."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A way of working, and the committed tokens per second that are expected of it."""

    choice: Choice
    rate: float


@dataclass(frozen=True, slots=True)
class _Found:
    """What a search came to: for which windows, at which speeds, and how the rate's logarithm follows each of them."""

    widest: int
    speeds: NDArray[np.float64]
    slopes: NDArray[np.float64]
    plan: Plan


class DraftPlanner:
    """Plans for a device that drafts, up to ``max_depth`` windows in flight."""

    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth
        self._found: _Found | None = None

    def plan(self, speeds: rates.Speeds, widest: int) -> Plan:
        """Return the best window of at most ``widest`` tokens, the best depth, and their rate."""
        found = self._found
        if found is not None and found.widest == widest:
            moved = found.slopes * (np.asarray(speeds.values()) - found.speeds)
            if float(np.abs(moved).sum()) <= NEAR:
                return Plan(found.plan.choice, found.plan.rate * math.exp(float(moved.sum())))
        plan = best_drafting(speeds, windows_within(widest), self._max_depth)
        self._found = _Found(widest, np.asarray(speeds.values()), _slopes(speeds, plan), plan)
        return plan


def windows_within(widest: int) -> rates.Floats:
    """Return the windows that are considered, up to ``widest`` tokens."""
    return np.asarray([one for one in WINDOWS if one <= widest], dtype=np.float64)


def best_drafting(speeds: rates.Speeds, windows: rates.Floats, max_depth: int) -> Plan:
    """Return the best of ``windows`` and depths up to ``max_depth``."""
    found = rates.sequential_rates(speeds, windows)
    best = int(found.argmax())
    choice, rate = Choice(int(windows[best])), float(found[best])
    if max_depth > 1:
        pairs = list(product(windows, range(2, max_depth + 1)))
        deep = rates.pipelined_rates(
            speeds, np.asarray([one[0] for one in pairs]), np.asarray([one[1] for one in pairs], dtype=np.int64)
        )
        best = int(deep.argmax())
        if deep[best] > rate:
            choice, rate = Choice(int(pairs[best][0]), pairs[best][1]), float(deep[best])
    return Plan(choice, rate)


def _slopes(speeds: rates.Speeds, plan: Plan) -> NDArray[np.float64]:
    """Return the derivative of the rate's logarithm by each speed."""
    tokens = rates.expected_tokens(speeds.acceptance, np.asarray([plan.choice.window]), speeds.values()[-1])
    moved, steps = beside(speeds, 1000 / plan.rate * float(tokens[0]))
    windows = np.full(len(moved), float(plan.choice.window))
    if plan.choice.depth > 1:
        found = rates.pipelined_rates(moved, windows, np.full(len(moved), plan.choice.depth))
    else:
        found = rates.sequential_rates(moved, windows)
    slopes: NDArray[np.float64] = np.log(found / plan.rate) / steps
    return slopes


def beside(speeds: rates.Speeds, round_ms: float) -> tuple[list[rates.Speeds], NDArray[np.float64]]:
    """Return speeds that differ from others in one of them each, and by how much, for a round of so long."""
    *_, first = values = speeds.values()
    steps = [
        -_STEP * (1 - speeds.acceptance),
        *[_STEP * round_ms] * (len(values) - 2),
        _STEP if first < 1 / 2 else -_STEP,
    ]
    moved = [
        rates.Speeds(*(value + steps[place] * (place == other) for other, value in enumerate(values)))
        for place in range(len(values))
    ]
    return moved, np.asarray(steps)
