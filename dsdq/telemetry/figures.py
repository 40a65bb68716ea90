"""What one verifier has done so far and holds now, as it tells whoever watches. Pure: no clock, no Redis.

Counters are those of its process: they go on when a verifier begins anew there under another name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any

import msgpack

VERSION = 1
MOST_TENANTS = 64
"""Tenants that are counted by name; what others do is counted as :data:`OTHERS`."""
OTHERS = "(others)"  # no tenant's name
FAILED = "error"
"""How a session ended that failed, beside the reasons of ``FinishReason``."""

ROW_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
SECOND_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Histogram:
    """How many values were at most each of some bounds, with their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures of a verifier at one moment.

    It was taken ``uptime_s`` after its process began to count, and is thrown away by Redis ``ttl_ms`` after it was
    written; whoever reads it from there knows its ``age_s``. ``running`` sessions are open, ``waiting`` opens have no
    place yet, ``rounds`` wait for a step. A step's ``positions`` are its rows' tokens, drafts and pieces of prompts
    among them. ``accepted_rounds[n]`` counts drafts of which n tokens stood. ``row_counts`` and ``second_counts`` are
    those of steps between :data:`ROW_BOUNDS` and :data:`SECOND_BOUNDS`. ``tenants`` has generated tokens,
    ``tenant_sessions`` who has sessions now.
    """

    worker: str = ""
    model: str = ""
    uptime_s: float = 0.0
    ttl_ms: int = 0
    slots: int = 0
    running: int = 0
    waiting: int = 0
    rounds: int = 0
    kv_blocks: int = 0
    kv_held: int = 0
    generated: int = 0
    prompt: int = 0
    drafts: int = 0
    drafted: int = 0
    accepted: int = 0
    accepted_rounds: tuple[int, ...] = ()
    steps: int = 0
    rows: int = 0
    positions: int = 0
    step_s: float = 0.0
    row_counts: tuple[int, ...] = ()
    second_counts: tuple[int, ...] = ()
    preemptions: int = 0
    takeovers: int = 0
    ended: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    tenants: Mapping[str, int] = field(default_factory=dict)
    tenant_sessions: Mapping[str, int] = field(default_factory=dict)
    age_s: float = 0.0

    @property
    def kv_usage(self) -> float:
        """Return which part of the KV cache sessions hold, 0 to 1."""
        return self.kv_held / self.kv_blocks if self.kv_blocks else 0.0

    @property
    def accepted_at(self) -> list[int]:
        """Return how many drafts stood at each position, from the first."""
        return list(accumulate(reversed(self.accepted_rounds[1:])))[::-1]

    def pack(self) -> bytes:
        """Return it as msgpack: a map of its fields, and ``v``."""
        packed: bytes = msgpack.packb({"v": VERSION, **{name: getattr(self, name) for name in _PACKED}})
        return packed


_PACKED = tuple(one.name for one in fields(Snapshot) if one.name != "age_s")
_EMPTY = Snapshot()


def unpack(packed: bytes) -> Snapshot | None:
    """Return a snapshot that was packed; None for one of another version, or bytes that are none.

    Fields that are not known are passed over; one that is missing has its default.
    """
    try:
        found: Any = msgpack.unpackb(packed, use_list=False)
    except ValueError:  # what msgpack's own errors are
        return None
    if not isinstance(found, dict) or found.get("v") != VERSION:
        return None
    known = {name: found[name] for name in _PACKED if name in found}
    if not all(_fits(value, getattr(_EMPTY, name)) for name, value in known.items()):
        return None
    return Snapshot(**known)


def _fits(value: object, example: object) -> bool:
    """Say whether a value is of an example's kind: counts in tuples, counts by name in maps."""
    if isinstance(example, float):
        return type(value) in {int, float}
    if isinstance(example, tuple):
        return isinstance(value, tuple) and all(type(one) is int for one in value)
    if isinstance(example, dict):
        return isinstance(value, dict) and all(type(name) is str and type(one) is int for name, one in value.items())
    return type(value) is type(example)
