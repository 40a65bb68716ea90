"""What AWC's networks are to learn, as arrays: from labelled worlds, and what formulas say of random speeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from dsdq.policies.window import rates
from dsdq.policies.window.awc_paper import WIDEST
from dsdq.policies.window.network import Floats
from dsdq.policies.window.ways import ALONE, DEPTHS, DRAFTED, FEATURES, OWN, OWN_WINDOWS, WAYS, WINDOWS, encode
from dsdq.sim.awc.labels import Labelled
from dsdq.sim.awc.watching import Moments, Note
from dsdq.sim.awc.worlds import MAX_WINDOW, World, draw

_OWN_KNOWN = FEATURES.index("own_known")
_WINDOWS = np.repeat(WINDOWS, len(DEPTHS))
_SEVERAL, _UNBOUND = 0.3, 0.6
_HIGHEST = 0.98
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is to be learned: ``features`` ``[n, inputs]``, ``gains`` ``[n, outputs]``; NaN where none is known."""

    features: Floats
    gains: Floats

    def __add__(self, other: Lessons) -> Lessons:
        """Return both."""
        return Lessons(np.concatenate([self.features, other.features]), np.concatenate([self.gains, other.gains]))

    def part(self, most: int) -> Lessons:
        """Return the first so many."""
        return Lessons(self.features[:most], self.gains[:most])

    def __len__(self) -> int:
        """Return how many."""
        return len(self.features)


def simulated(worlds: Iterable[Moments]) -> Lessons:
    """Return what labelled worlds teach ``awc``: how many times faster than the target alone each way is."""
    features, gains = list[tuple[float, ...]](), list[Floats]()
    for one in worlds:
        for note in one.notes:
            features.append(note.features)
            gains.append(_gains(one.world, note))
    return Lessons(np.asarray(features, np.float32), np.asarray(gains, np.float32))


def papers(worlds: Iterable[Moments]) -> Lessons:
    """Return what labelled worlds teach ``awc:paper``: the best window at depth 1; 0 where drafting does not pay."""
    features, windows = list[tuple[float, ...]](), list[list[float]]()
    for one in worlds:
        best = _best_window(one.world)
        features.extend(note.paper for note in one.notes)
        windows.extend([best] for _ in one.notes)
    return Lessons(np.asarray(features, np.float32), np.asarray(windows, np.float32))


def _gains(one: Labelled, note: Note) -> Floats:
    gains = np.full(len(WAYS), np.nan, np.float32)
    own_known = note.features[_OWN_KNOWN] > 0
    for way, rate in one.rates.items():
        if rate > 0 and (way < OWN or own_known):
            gains[way] = np.log(rate * note.unit_ms / 1000)
    return gains


def _best_window(one: Labelled) -> float:
    flat = {way: rate for way, rate in one.rates.items() if WAYS[way].depth == 1 and WAYS[way].window <= WIDEST}
    best = max(flat, key=lambda way: flat[way])
    return float(WAYS[best].window) if best < DRAFTED else 0.0


# What the formulas say


def calculated(seed: int, count: int) -> Lessons:
    """Return what the formulas teach of ``count`` random worlds of one session, in which all is known."""
    luck = np.random.default_rng([seed, 0, count])
    lessons = [
        _calculated([draw(luck) for _ in range(min(_AT_ONCE, count - done))], luck)
        for done in range(0, count, _AT_ONCE)
    ]
    return reduce(add, lessons)


def _calculated(worlds: Sequence[World], luck: np.random.Generator) -> Lessons:
    speeds = [_speeds(world, luck) for world in worlds]
    owns = [_own(world, one) for world, one in zip(worlds, speeds, strict=True)]
    widest = [MAX_WINDOW if luck.random() < _UNBOUND else int(luck.integers(1, MAX_WINDOW)) for _ in worlds]
    units_ms = np.asarray([1000 / rates.target_only_rate(one) for one in speeds])
    found = np.empty((len(worlds), len(WAYS)))
    found[:, :DRAFTED] = np.where(np.asarray(widest)[:, None] >= _WINDOWS, _drafting(speeds), np.nan)
    found[:, ALONE] = 1000 / units_ms
    own_windows = np.asarray(OWN_WINDOWS, dtype=np.float64)
    for row, own in enumerate(owns):
        found[row, OWN:] = (
            np.nan if own is None else rates.colocated_rates(own[0], own[1][0], 0.0, own_windows, own[1][1])
        )
    features = [
        encode(one, own, unit_ms, math.exp(luck.uniform(0, 4)) if luck.random() < _SEVERAL else 1.0, bound)
        for one, own, unit_ms, bound in zip(speeds, owns, units_ms, widest, strict=True)
    ]
    gains = np.log(found * units_ms[:, None] / 1000)
    return Lessons(np.asarray(features), gains.astype(np.float32))


def _drafting(speeds: Sequence[rates.Speeds]) -> rates.Floats:
    """Return the rates of the device's ways, ``[worlds, DRAFTED]``."""
    windows, depths = np.asarray(WINDOWS, dtype=np.float64), np.asarray(DEPTHS)
    found = np.empty((len(speeds), len(windows), len(depths)))
    for place, depth in enumerate(DEPTHS):
        each = [one for one in speeds for _ in WINDOWS]
        lanes = np.tile(windows, len(speeds))
        if depth == 1:
            one_depth = rates.sequential_rates(each, lanes)
        else:
            one_depth = rates.pipelined_rates(each, lanes, np.full(len(lanes), depth))
        found[:, :, place] = one_depth.reshape(len(speeds), len(windows))
    return found.reshape(len(speeds), DRAFTED)


def _speeds(world: World, luck: np.random.Generator) -> rates.Speeds:
    """Return what a device would know of a world."""
    return rates.Speeds(
        acceptance=min(world.acceptance, _HIGHEST),
        draft_ms=world.draft_ms,
        network_ms=world.rtt_ms + world.jitter_ms + 1.0,
        queue_ms=world.step_ms * luck.uniform(0, 1) * (luck.random() < _SEVERAL),
        step_ms=world.step_ms + world.row_ms,
        position_ms=world.position_ms,
        stream_ms=world.step_ms * luck.uniform(0, 0.5) * (luck.random() < _SEVERAL),
        first=min(world.acceptance if world.first is None else world.first, _HIGHEST),
    )


def _own(world: World, speeds: rates.Speeds) -> tuple[rates.Speeds, tuple[float, float]] | None:
    """Return the same of passes for which the verifier drafts: a token drafted counts as a part of its position."""
    if world.own_draft_ms is None:
        return None
    step_ms = max(speeds.step_ms - world.own_draft_ms, 0.05 * speeds.step_ms)
    passes = replace(speeds, step_ms=step_ms, position_ms=speeds.position_ms + world.own_draft_ms)
    first = world.own_acceptance if world.own_first is None else world.own_first
    return passes, (world.own_acceptance, first)
