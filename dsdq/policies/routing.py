"""Which verifier a new session goes to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """A verifier as its registry entry shows it; figures are as old as its last heartbeat."""

    @property
    def sessions(self) -> int:
        """Return how many sessions it holds."""
        ...

    @property
    def slots(self) -> int:
        """Return how many it can hold."""
        ...


W = TypeVar("W", bound=Loaded)


def power_of_two(workers: Sequence[W], rng: random.Random) -> W:
    """Return the less loaded of two verifiers drawn at random (Mitzenmacher 2001).

    Devices that all join the shortest queue on a stale figure herd onto one verifier; two random choices do not.

    Args:
        workers: at least one.
        rng: the source of the draw.
    """
    if len(workers) == 1:
        return workers[0]
    one, other = rng.sample(list(workers), 2)
    return min(one, other, key=lambda worker: worker.sessions / worker.slots)
