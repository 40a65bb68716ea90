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
_FLAT = np.asarray(WINDOWS, dtype=np.float64)
_WIDE, _DEEP = np.repeat(_FLAT, len(DEPTHS) - 1), np.tile(DEPTHS[1:], len(WINDOWS))


class Every:
    """Rates of all ways. Those of drafting are kept, with derivatives, while speeds are near those of a search."""

    def __init__(self) -> None:
        self._values = np.zeros(0)
        self._logs, self._slopes = np.zeros(0), np.zeros(0)

    def logs(self, view: View) -> Floats:
        """Return what :func:`searched` does, or nearly."""
        return _with_streams(view, self._drafting(view.speeds))

    def _drafting(self, speeds: rates.Speeds) -> Floats:
        values = np.asarray(speeds.values())
        if len(self._values):
            moved = values - self._values
            if np.abs(self._slopes[self._logs.argmax()] * moved).sum() <= NEAR:
                near: Floats = self._logs + self._slopes @ moved
                return near
        self._values = values
        self._logs, self._slopes = _with_slopes(speeds)
        return self._logs


def searched(view: View) -> Floats:
    """Return the logarithms of tokens per second ``[ways]``; 0 for the verifier's drafter while it is unknown."""
    return _with_streams(view, np.log(drafting_rates([view.speeds]))[0])


def _with_streams(view: View, drafting: Floats) -> Floats:
    """Return what is said of drafting, and what of streams."""
    known, found = view.known, np.zeros(len(WAYS))
    found[:DRAFTED] = drafting
    found[ALONE] = np.log(rates.target_only_rate(known.alone_speeds()))
    if known.seen[Mode.COLOCATED]:
        acceptance, first = view.server
        found[OWN:] = np.log(rates.colocated_rates(known.own_speeds(), acceptance, 0.0, _OWN_WINDOWS, first))
    return found


def _with_slopes(speeds: rates.Speeds) -> tuple[Floats, Floats]:
    """Return the logarithms of the rates of all drafted ways ``[DRAFTED]``, and their derivatives by each speed."""
    moved, steps = beside(speeds, speeds.network_ms + speeds.queue_ms + speeds.step_ms + speeds.draft_ms)
    logs = np.log(drafting_rates([speeds, *moved]))
    return logs[0], ((logs[1:] - logs[0]) / steps[:, None]).T


def drafting_rates(speeds: Sequence[rates.Speeds]) -> Floats:
    """Return the rates of the device's ways, ``[speeds, DRAFTED]``."""
    found = np.empty((len(speeds), len(WINDOWS), len(DEPTHS)))
    found[:, :, 0] = rates.sequential_rates(speeds, np.tile(_FLAT, len(speeds))).reshape(len(speeds), -1)
    deep = rates.pipelined_rates(speeds, np.tile(_WIDE, len(speeds)), np.tile(_DEEP, len(speeds)))
    found[:, :, 1:] = deep.reshape(len(speeds), len(WINDOWS), len(DEPTHS) - 1)
    return found.reshape(len(speeds), DRAFTED)
