"""What the formulas say of every way to work of which AWC knows: the logarithms of their rates. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsdq.policies.window import rates
from dsdq.policies.window.exploring import View
from dsdq.policies.window.planner import NEAR, beside
from dsdq.policies.window.protocol import Mode
from dsdq.policies.window.ways import ALONE, DEPTHS, DRAFTED, OWN, OWN_WINDOWS, WAYS, WINDOWS

Floats = NDArray[np.float64]

_OWN_WINDOWS = np.asarray(OWN_WINDOWS, dtype=np.float64)
_WINDOWS = np.asarray(WINDOWS, dtype=np.float64)


class Every:
    """Rates of all ways, as far as they are on offer: the device's first so many ``windows`` and ``depths``.

    Those of drafting are kept, with derivatives, while speeds are near those of a search.
    """

    def __init__(self, windows: int = len(WINDOWS), depths: int = len(DEPTHS)) -> None:
        self._offered = (windows, depths)
        self._values = np.zeros(0)
        self._logs, self._slopes = np.zeros(0), np.zeros(0)

    def logs(self, view: View) -> Floats:
        """Return what :func:`searched` does, or nearly; 0 for what is not on offer."""
        return _with_streams(view, self._drafting(view.speeds).reshape(self._offered))

    def _drafting(self, speeds: rates.Speeds) -> Floats:
        values = np.asarray(speeds.values())
        if len(self._values):
            moved = values - self._values
            if np.abs(self._slopes[self._logs.argmax()] * moved).sum() <= NEAR:
                near: Floats = self._logs + self._slopes @ moved
                return near
        self._values = values
        self._logs, self._slopes = _with_slopes(speeds, *self._offered)
        return self._logs


def searched(view: View) -> Floats:
    """Return the logarithms of tokens per second ``[ways]``; 0 for the verifier's drafter while it is unknown."""
    return _with_streams(view, np.log(drafting_rates([view.speeds])[0]))


def _with_streams(view: View, drafting: Floats) -> Floats:
    """Return what is said of drafting, ``[windows, depths]``, and what of streams."""
    known, found = view.known, np.zeros(len(WAYS))
    windows, depths = drafting.shape
    found[:DRAFTED].reshape(len(WINDOWS), len(DEPTHS))[:windows, :depths] = drafting
    found[ALONE] = np.log(rates.target_only_rate(view.speeds))
    if known.seen[Mode.COLOCATED]:
        acceptance, first = view.server
        found[OWN:] = np.log(rates.colocated_rates(known.own_speeds(), acceptance, 0.0, _OWN_WINDOWS, first))
    return found


def _with_slopes(speeds: rates.Speeds, windows: int, depths: int) -> tuple[Floats, Floats]:
    """Return logarithms of the rates of drafted ways, ``[windows · depths]``, and their derivatives by each speed."""
    moved, steps = beside(speeds, speeds.network_ms + speeds.queue_ms + speeds.step_ms + speeds.draft_ms)
    logs = np.log(drafting_rates([speeds, *moved], windows, depths)).reshape(1 + len(moved), -1)
    return logs[0], ((logs[1:] - logs[0]) / steps[:, None]).T


def drafting_rates(speeds: Sequence[rates.Speeds], windows: int = len(WINDOWS), depths: int = len(DEPTHS)) -> Floats:
    """Return the rates of the device's first so many windows and depths, ``[speeds, windows, depths]``."""
    flat, count = _WINDOWS[:windows], len(speeds)
    found = np.empty((count, windows, depths))
    found[:, :, 0] = rates.sequential_rates(speeds, np.tile(flat, count)).reshape(count, windows)
    if depths > 1:
        wide, deep = np.repeat(flat, depths - 1), np.tile(DEPTHS[1:depths], windows)
        pairs = rates.pipelined_rates(speeds, np.tile(wide, count), np.tile(deep, count))
        found[:, :, 1:] = pairs.reshape(count, windows, depths - 1)
    return found
