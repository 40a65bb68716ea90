"""How a device reads its answers from Redis: a read waits there for the next ones, and what it brings asks for more.

What is appended while no read is there waits for the next one; several answers then come together. On far links the
live device reads ahead for the answers to its drafts (:mod:`dsdq.bus.feed`), which are then there as soon as they can.
"""

from __future__ import annotations

from dsdq.policies.reading import is_far
from dsdq.sim.links import RoundTrip


class Feed:
    """One device's reads, one after the other: the answers that the latest brings leave together.

    A read takes a round trip and ``beside_ms``, which are jitter and Redis.
    """

    __slots__ = ("_beside_ms", "_departs_ms", "_returns_ms", "_trip")

    def __init__(self, trip: RoundTrip, beside_ms: float) -> None:
        self._trip, self._beside_ms = trip, beside_ms
        self._departs_ms, self._returns_ms = -1.0, 0.0

    def departs_ms(self, now_ms: float, *, ahead: bool) -> float:
        """Return when an answer leaves that is appended now; ``ahead`` if it is one that is read ahead on far links."""
        trip_ms = self._trip.at(now_ms) + self._beside_ms
        if now_ms > self._departs_ms:
            self._departs_ms = max(now_ms, self._returns_ms)
            self._returns_ms = self._departs_ms + trip_ms
        return now_ms if ahead and is_far(trip_ms) else self._departs_ms
