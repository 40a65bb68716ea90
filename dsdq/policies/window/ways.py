"""What AWC's network is asked about, and what it sees of the world: the same for training and for devices. Pure.

It foretells by what factors ways to work are faster or slower than the formulas of :mod:`dsdq.policies.window.rates`
say: a few logarithms, of which :data:`BASIS` makes one for each way, so that ways that were seldom simulated follow
those beside them. All times that it sees are shares of the time that the target alone takes for a token, so that what
holds for one machine holds for a slower one.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dsdq.policies.window import planner, rates
from dsdq.policies.window.exploring import View
from dsdq.policies.window.network import Floats
from dsdq.policies.window.protocol import Choice, Mode

WINDOWS = tuple(window for window in planner.WINDOWS if window <= 32)
DEPTHS = (1, 2, 3, 4)
OWN_WINDOWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)
DRAFTED = len(WINDOWS) * len(DEPTHS)
ALONE = DRAFTED
OWN = DRAFTED + 1

WAYS = (
    *(Choice(window, depth) for window, depth in product(WINDOWS, DEPTHS)),
    Choice(0, 1, Mode.TARGET_ONLY),
    *(Choice(window, 1, Mode.COLOCATED) for window in OWN_WINDOWS),
)
"""All ways, in their order: ``DRAFTED`` of the device, ``ALONE``, and from ``OWN`` on the verifier's."""

CORRECTIONS = (
    "drafting",
    "drafting, by window",
    "drafting, by its square",
    "in flight",
    "in flight, by window",
    "in flight, by depth",
    "alone",
    "own",
    "own, by window",
    "own, by its square",
)
"""The network's outputs."""

_MIDDLE_WINDOW = 6

FEATURES = (
    "run",  # -log(1 - α): of the device's drafter
    "first_run",
    "draft",
    "network",
    "queue",
    "position",
    "stream",
    "rows",
    "widest",
    "own_known",
    "own_run",  # of the verifier's
    "own_first_run",
    "own_pass",
    "own_position",
)
_LEAST = 1e-3
_NEARLY_NONE = 1e-2


def seen(view: View, formulas: NDArray[np.float64]) -> Floats:
    """Return the network's features ``[14]`` of what a device knows; ``formulas`` ``[ways]`` say the logarithms."""
    known, unit_ms = view.known, 1000 * math.exp(-formulas[ALONE])
    own = (known.own_speeds(), view.server) if known.seen[Mode.COLOCATED] else None
    return encode(view.speeds, own, unit_ms, known.rows.mean, view.widest)


def encode(
    speeds: rates.Speeds,
    own: tuple[rates.Speeds, tuple[float, float]] | None,
    unit_ms: float,
    rows: float,
    widest: int,
) -> Floats:
    """Return the network's features ``[14]``.

    Args:
        speeds: of the device.
        own: of passes for which the verifier drafts, and α and φ of its drafter; None where that is not known.
        unit_ms: what the target alone takes for a token.
        rows: sessions in a pass.
        widest: the largest window that may be drafted.
    """
    first = speeds.acceptance if speeds.first is None else speeds.first
    features = (
        _run(speeds.acceptance),
        _run(first),
        math.log(speeds.draft_ms / unit_ms + _LEAST),
        math.log(speeds.network_ms / unit_ms + _NEARLY_NONE),
        math.log(speeds.queue_ms / unit_ms + _NEARLY_NONE),
        math.log(speeds.position_ms / unit_ms + _LEAST),
        math.log(speeds.stream_ms / unit_ms + _NEARLY_NONE),
        math.log(max(rows, 1.0)),
        math.log(widest),
        *(_own(*own, unit_ms) if own is not None else (0.0,) * 5),
    )
    return np.asarray(features, dtype=np.float32)


def _own(speeds: rates.Speeds, server: tuple[float, float], unit_ms: float) -> tuple[float, ...]:
    return (
        1.0,
        _run(server[0]),
        _run(server[1]),
        math.log(speeds.step_ms / unit_ms + _LEAST),
        math.log(speeds.position_ms / unit_ms + _LEAST),
    )


def _run(share: float) -> float:
    return -math.log(1 - min(share, 0.99))


def _corrections(way: Choice) -> tuple[float, ...]:
    """Return how much of each correction a way takes."""
    if way.mode is Mode.TARGET_ONLY:
        return *(0.0,) * 6, 1.0, *(0.0,) * 3
    wide = math.log(way.window / _MIDDLE_WINDOW)
    by_window = (1.0, wide, wide**2)
    if way.mode is Mode.COLOCATED:
        return *(0.0,) * 7, *by_window
    deep = (1.0, wide, way.depth - 2.0) if way.depth > 1 else (0.0,) * 3
    return *by_window, *deep, *(0.0,) * 4


BASIS: Floats = np.asarray([_corrections(way) for way in WAYS], dtype=np.float32)
"""How much of each correction each way takes, ``[ways, corrections]``."""

SHAPES: Floats = np.asarray([", by " in name for name in CORRECTIONS], dtype=np.float32)
"""1 for a correction that makes a difference between ways of a kind, else 0, ``[corrections]``."""
