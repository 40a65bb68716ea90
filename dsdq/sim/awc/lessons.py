"""What AWC's networks are to learn, as arrays: from labelled worlds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dsdq.policies.window.awc_paper import WIDEST
from dsdq.policies.window.network import Floats
from dsdq.policies.window.ways import ALONE, DRAFTED, FEATURES, OWN, WAYS
from dsdq.sim.awc.labels import Labelled
from dsdq.sim.awc.watching import Moments, Note

_OWN_KNOWN = FEATURES.index("own_known")


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is to be learned: from ``features`` ``[n, inputs]`` the ``truth`` ``[n, ways]``; NaN where none is known.

    ``formulas`` ``[n, ways]`` say it without having learned anything.
    """

    features: Floats
    formulas: Floats
    truth: Floats

    def __len__(self) -> int:
        """Return how many."""
        return len(self.features)


def simulated(worlds: Iterable[Moments]) -> Lessons:
    """Return what labelled worlds teach ``awc``: the logarithms of ways' rates."""
    features, formulas, truth = list[tuple[float, ...]](), list[tuple[float, ...]](), list[Floats]()
    for one in worlds:
        for note in one.notes:
            features.append(note.features)
            formulas.append(note.formulas)
            truth.append(_logs(one.world, note))
    return Lessons(*(np.asarray(part, np.float32) for part in (features, formulas, truth)))


def papers(worlds: Iterable[Moments]) -> Lessons:
    """Return what labelled worlds teach ``awc:paper``: the best window at depth 1; 0 where drafting does not pay."""
    features, windows = list[tuple[float, ...]](), list[list[float]]()
    for one in worlds:
        best = _best_window(one.world)
        features.extend(note.paper for note in one.notes)
        windows.extend([best] for _ in one.notes)
    truth = np.asarray(windows, np.float32)
    return Lessons(np.asarray(features, np.float32), np.zeros_like(truth), truth)


def _logs(one: Labelled, note: Note) -> Floats:
    logs = np.full(len(WAYS), np.nan, np.float32)
    own_known = note.features[_OWN_KNOWN] > 0
    for way, rate in one.rates.items():
        if rate > 0 and (way < OWN or own_known):
            logs[way] = np.log(rate)
    return logs


def _best_window(one: Labelled) -> float:
    """Return the best of the windows of which the paper's network knows, one in flight; 0 where none is worth it."""
    flat = {
        way: rate
        for way, rate in one.rates.items()
        if way == ALONE or (way < DRAFTED and WAYS[way].depth == 1 and WAYS[way].window <= WIDEST)
    }
    best = max(flat, key=lambda way: flat[way])
    return float(WAYS[best].window) if best < DRAFTED else 0.0
