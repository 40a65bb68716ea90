"""What a text meets: the device that makes it, and the world around that."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dsdq.sim.cloud import Cloud
from dsdq.sim.kernel import Kernel
from dsdq.sim.links import RoundTrip, connect
from dsdq.sim.nodes import Nodes
from dsdq.sim.reads import Feed
from dsdq.sim.record import Record
from dsdq.sim.scenario.model import Broker, Devices
from dsdq.sim.streams import Streams


class Device:
    """A device while it makes one text: what drafting, reading a prompt and its program take, and its connection.

    ``round_trip_ms`` is what it knows of its link, ``open_timeout_ms`` for how long it asks for a place. Its luck is by
    the numbers of the text, so that it is the same under any policy.
    """

    __slots__ = (
        "_down_share",
        "_latency_ms",
        "_numbers",
        "_streams",
        "_trip",
        "begin_ms",
        "down",
        "draft_ms",
        "feed",
        "open_timeout_ms",
        "prompt_ms",
        "round_ms",
        "round_trip_ms",
        "up",
    )

    def __init__(
        self,
        figures: Devices,
        trip: RoundTrip,
        broker: Broker,
        streams: Streams,
        numbers: tuple[int, ...],
        now_ms: float,
    ) -> None:
        self._streams, self._numbers = streams, numbers
        self.draft_ms, self.prompt_ms = figures.draft_ms, figures.prompt_ms
        self.begin_ms, self.round_ms = figures.begin_ms, figures.round_ms
        self.open_timeout_ms = figures.open_timeout_ms
        self.feed = None if broker.pushed else Feed(trip, figures.link.jitter_ms + 2 * broker.latency_ms)
        self.up, self.down = connect(figures.link, trip, streams, numbers, now_ms, broker.latency_ms)
        self.round_trip_ms = trip.at(now_ms) + 2 * broker.latency_ms
        self._trip, self._down_share, self._latency_ms = trip, 1 - figures.link.up_share, broker.latency_ms

    def leaves_ms(self, now_ms: float, *, ahead: bool) -> float:
        """Return when an answer leaves for it that is there now; ``ahead`` if it is read ahead on far links."""
        return now_ms if self.feed is None else self.feed.departs_ms(now_ms, ahead=ahead)

    def reply_ms(self, now_ms: float) -> float:
        """Return how long the reply to a publication takes: it is small, and nothing but its way delays it."""
        return self._down_share * self._trip.at(now_ms) + self._latency_ms

    def luck(self, name: str) -> Random:
        """Return a stream of luck for one purpose, which is the same whatever else happens in the simulation."""
        return self._streams.random(name, *self._numbers)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a text meets: the clock, the verifiers, the queue between, and the notes that are taken.

    ``known_length`` says whether a device knows where its text ends, ``max_window`` is the contract's. ``repeats`` says
    whether messages can get lost for good, so that rounds are asked for again. Where several targets work on one text,
    ``nodes`` of them make it, and no verifier.
    """

    kernel: Kernel
    cloud: Cloud
    broker: Broker
    record: Record
    max_window: int
    known_length: bool
    repeats: bool
    nodes: Nodes | None = None
