"""What a text meets: its device with the way to Redis, and all that texts share."""

from __future__ import annotations

from dataclasses import dataclass

from dsdq.sim.cloud import Cloud
from dsdq.sim.kernel import Kernel
from dsdq.sim.links import connect, rtt_ms
from dsdq.sim.reads import Feed
from dsdq.sim.record import Record
from dsdq.sim.scenario.model import Broker, Devices
from dsdq.sim.streams import Streams


class Device:
    """A device while it makes one text: what drafting, reading a prompt and its program take, and its connection.

    ``drafts`` says whether it has a drafter, ``round_trip_ms`` what it knows of its link.
    """

    __slots__ = (
        "begin_ms",
        "down",
        "draft_ms",
        "drafts",
        "feed",
        "prompt_ms",
        "round_ms",
        "round_trip_ms",
        "up",
        "up_share",
    )

    def __init__(
        self, figures: Devices, broker: Broker, streams: Streams, numbers: tuple[int, int], now_ms: float
    ) -> None:
        self.draft_ms, self.prompt_ms, self.drafts = figures.draft_ms, figures.prompt_ms, True
        self.begin_ms, self.round_ms = figures.begin_ms, figures.round_ms
        self.feed = None if broker.pushed else Feed(figures.link, broker)
        self.up, self.down = connect(figures.link, streams, numbers, now_ms)
        self.round_trip_ms = rtt_ms(figures.link, now_ms) + 2 * broker.latency_ms
        self.up_share = figures.link.up_share or 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What a text meets: the clock, the verifiers, the queue between, and the notes that are taken.

    ``known_length`` says whether a device knows where its text ends, ``max_window`` is the contract's. ``repeats`` says
    whether messages can get lost for good, so that rounds are asked for again.
    """

    kernel: Kernel
    cloud: Cloud
    broker: Broker
    record: Record
    max_window: int
    known_length: bool
    repeats: bool
