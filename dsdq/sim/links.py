"""A connection's two directions: when a message that is sent now is there. TCP: nothing overtakes unless it is said."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import repeat

from dsdq.sim.scenario.model import Link
from dsdq.sim.streams import Streams

_PER_HOUR_MS = 3_600_000.0


class RoundTrip:
    """A link's round trip without jitter, as it is or as its trace says."""

    __slots__ = ("_length_s", "_times", "_trips")

    def __init__(self, link: Link) -> None:
        trace = link.trace or ((0.0, link.rtt_ms),)
        self._times, self._trips = [at_s for at_s, _ in trace], [rtt_ms for _, rtt_ms in trace]
        self._length_s = self._times[-1] + (self._times[-1] - self._times[-2] if len(trace) > 1 else 1.0)

    def at(self, now_ms: float) -> float:
        """Return it in milliseconds, as it is then."""
        if len(self._trips) == 1:
            return self._trips[0]
        return self._trips[bisect_right(self._times, (now_ms / 1000) % self._length_s) - 1]


class Direction:
    """One way of one connection, up or down, and ``beside_ms`` of whatever is at its end.

    Bandwidth makes messages queue, losses make them late.
    """

    __slots__ = (
        "_beside_ms",
        "_chance",
        "_free_ms",
        "_jitter",
        "_link",
        "_ms_per_byte",
        "_outages",
        "_part",
        "_reorder",
        "_there_ms",
        "_trip",
    )

    def __init__(
        self,
        link: Link,
        trip: RoundTrip,
        streams: Streams,
        outages: Outages | None,
        numbers: tuple[int, ...],
        *,
        up: bool,
        beside_ms: float,
    ) -> None:
        self._beside_ms = beside_ms
        self._link, self._trip, self._outages = link, trip, outages
        self._part = link.up_share if up else 1 - link.up_share
        kbps = link.up_kbps if up else link.down_kbps
        self._ms_per_byte = 8 / kbps if kbps else 0.0
        self._free_ms, self._there_ms = 0.0, 0.0
        self._reorder = link.reorder if up else 0.0  # a session's log is read in order
        name = "up" if up else "down"
        self._jitter: Iterator[float] = (
            streams.exponentials(link.jitter_ms / 2, f"jitter {name}", *numbers) if link.jitter_ms else repeat(0.0)
        )
        self._chance = streams.random(f"chance {name}", *numbers) if link.loss or link.reorder else None

    def arrival_ms(self, now_ms: float, size: float) -> float:
        """Return when a message of ``size`` bytes is there that is sent now."""
        if self._outages is not None:
            now_ms = self._outages.over_ms(now_ms)
        if self._ms_per_byte:
            now_ms = self._free_ms = max(self._free_ms, now_ms) + self._ms_per_byte * size
        there_ms = now_ms + self._part * self._trip.at(now_ms) + next(self._jitter) + self._beside_ms
        if self._chance is not None:
            while self._chance.random() < self._link.loss:
                there_ms += self._link.resend_ms
            if self._reorder and self._chance.random() < self._reorder:
                return max(there_ms, self._there_ms) + self._trip.at(now_ms)
        if there_ms < self._there_ms:
            return self._there_ms
        self._there_ms = there_ms
        return there_ms


class Outages:
    """When a connection is broken: at random, for random times."""

    __slots__ = ("_begins_ms", "_ends_ms", "_lengths", "_pauses")

    def __init__(self, link: Link, streams: Streams, numbers: tuple[int, ...]) -> None:
        self._pauses = streams.exponentials(_PER_HOUR_MS / link.drops_per_hour, "drops", *numbers)
        self._lengths = streams.exponentials(1000 * link.drop_s, "drop lengths", *numbers)
        self._begins_ms, self._ends_ms = 0.0, 0.0

    def begin(self, now_ms: float) -> None:
        """Begin a connection that holds now."""
        self._begins_ms = now_ms + next(self._pauses)
        self._ends_ms = self._begins_ms + next(self._lengths)

    def over_ms(self, now_ms: float) -> float:
        """Return when the connection holds again, now if it does."""
        while now_ms >= self._ends_ms:
            self._begins_ms = self._ends_ms + next(self._pauses)
            self._ends_ms = self._begins_ms + next(self._lengths)
        return self._ends_ms if now_ms >= self._begins_ms else now_ms


def connect(
    link: Link, trip: RoundTrip, streams: Streams, numbers: tuple[int, ...], now_ms: float, beside_ms: float = 0.0
) -> tuple[Direction, Direction]:
    """Return the ways up and down of a connection that is made now; both break at the same times.

    At Redis a message takes ``beside_ms`` until its reader has it.
    """
    outages = Outages(link, streams, numbers) if link.drops_per_hour else None
    if outages is not None:
        outages.begin(now_ms)
    up = Direction(link, trip, streams, outages, numbers, up=True, beside_ms=beside_ms)
    return up, Direction(link, trip, streams, outages, numbers, up=False, beside_ms=beside_ms)
