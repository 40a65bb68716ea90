"""All devices: when they ask for texts, and which. A device makes one at a time; those asked for meanwhile wait."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dsdq.policies.window import Experience, Mode, Offer, WindowPolicy, load_policy
from dsdq.sim.device import Generation
from dsdq.sim.held import UNKNOWN
from dsdq.sim.links import RoundTrip
from dsdq.sim.nodes import Reading
from dsdq.sim.record import REFUSED, Request
from dsdq.sim.scenario.model import Scenario, Way
from dsdq.sim.scenario.traces import Arrival
from dsdq.sim.setting import Device, Setting
from dsdq.sim.streams import Streams
from dsdq.sim.texts import Text, Texts

REFUSED_MS = 1000.0
"""How long a device that was refused takes at least to ask for something else: without that no time might pass."""

_AT_ONCE = 1024

LoadPolicy = Callable[[str, Offer], WindowPolicy]


@dataclass(slots=True)
class Planned:
    """A request that comes to a device at a time; its text may have known ``lengths`` of prompt and output."""

    at_ms: float
    device: int
    tenant: str
    lengths: tuple[int, int] | None = None


class Fleet:
    """The devices of one class, whose luck ``streams`` are. Those without a text take no memory."""

    def __init__(
        self,
        name: str,
        scenario: Scenario,
        setting: Setting,
        streams: Streams,
        texts: Texts,
        trace: Sequence[Arrival] = (),
        load: LoadPolicy = load_policy,
    ) -> None:
        """Take what a class's name says in a scenario, and the requests of its trace if it has one."""
        self._name, self._figures = name, scenario.devices[name]
        self._setting, self._kernel, self._streams, self._texts = setting, setting.kernel, streams, texts
        self._trip = RoundTrip(self._figures.link)
        self._until_ms = 1000 * scenario.duration_s
        self._policy, self._offer, self._load = _policy(scenario), _offer(scenario), load
        self._experience = Experience(self._figures.count)
        self._queues: dict[int, deque[tuple[Request, Text, tuple[int, ...]]]] = {}
        self._arrivals = self._traced(trace) if self._figures.arrivals.trace else self._drawn()
        self._thoughts = dict[int, Iterator[float]]()
        self._count, self._asked = 0, Counter[int]()  # texts of the class, and of each device that asks again and again
        routing, alone = scenario.routing, scenario.verifiers.count == 1
        self._trust_ms = 1000 * (routing.trust_alone_s if alone else routing.trust_s)
        self._looked_ms = dict[int, float]()

    def begin(self) -> None:
        """Plan the first requests."""
        if self._figures.arrivals.think_s is None:
            self._plan()
            return
        for device in range(self._figures.count):
            mean_ms = 1000 * self._figures.arrivals.think_s
            self._thoughts[device] = self._streams.exponentials(mean_ms, "thoughts", device)
            self._ask_later(device)

    # By chance, at a rate, or as it was once

    def _traced(self, trace: Sequence[Arrival]) -> Iterator[Planned]:
        """Give the requests of a trace; those that name no device come to any."""
        luck, tenant = self._streams.random("devices"), self._figures.tenant
        for one in trace:
            device = luck.randrange(self._figures.count) if one.device is None else one.device
            yield Planned(1000 * one.at_s, device, one.tenant or tenant, (one.prompt, one.output))

    def _drawn(self) -> Iterator[Planned]:
        """Give requests without end, each to a device by chance."""
        arrivals, count = self._figures.arrivals, self._figures.count
        per_s = arrivals.per_s or (arrivals.per_device_per_s or 0.0) * count
        luck, at_ms = self._streams.generator("arrivals"), 0.0
        while True:
            gaps = luck.exponential(1000 / per_s, _AT_ONCE).tolist()
            for gap_ms, device in zip(gaps, luck.integers(count, size=_AT_ONCE).tolist(), strict=True):
                at_ms += gap_ms
                yield Planned(at_ms, device, self._figures.tenant)

    def _plan(self) -> None:
        planned = next(self._arrivals, None)
        if planned is not None and planned.at_ms < self._until_ms:
            self._kernel.at(planned.at_ms, self._arrive, planned)

    def _arrive(self, planned: Planned) -> None:
        self._ask(planned, (self._count,))
        self._count += 1
        self._plan()

    # Again and again, each device for itself

    def _ask_later(self, device: int, least_ms: float = 0.0) -> None:
        at_ms = self._kernel.now_ms + max(next(self._thoughts[device]), least_ms)
        if at_ms < self._until_ms:
            self._kernel.at(at_ms, self._ask_again, device)

    def _ask_again(self, device: int) -> None:
        self._ask(Planned(self._kernel.now_ms, device, self._figures.tenant), (device, self._asked[device]))
        self._asked[device] += 1

    # Texts

    def _ask(self, planned: Planned, numbers: tuple[int, ...]) -> None:
        """Let a device be asked for the text of some numbers: it begins, or the text waits for those before it."""
        record, device = self._setting.record, planned.device
        number, text = len(record.requests), self._texts.text(*numbers, lengths=planned.lengths)
        request = Request(number, self._name, device, planned.tenant, self._kernel.now_ms, text.prompt, text.output)
        record.asked(request)
        queue = self._queues.get(device)
        if queue is None:
            self._queues[device] = deque()
            self._make(request, text, numbers)
        else:
            queue.append((request, text, numbers))

    def _make(self, request: Request, text: Text, numbers: tuple[int, ...]) -> None:
        figures = self._figures
        device = Device(figures, self._trip, self._setting.broker, self._streams, numbers, self._kernel.now_ms)
        if self._looks(request.device):
            device.begin_ms += device.round_trip_ms
        leaves_at = UNKNOWN
        if figures.leave:
            luck = device.luck("leave")
            leaves_at = luck.randrange(text.output) if luck.random() < figures.leave else UNKNOWN
        setting, nodes = self._setting, self._setting.nodes

        def _done() -> None:
            self._done(request)

        if nodes is not None:
            Reading(setting, request, device, text.guesses[1], _done, leaves_at).begin(nodes)
            return
        policy = self._load(self._policy, self._offer)
        if figures.remembers:
            policy = self._experience.begin(policy, request.device)
        Generation(setting, request, policy, device, text.guesses, _done, leaves_at).begin()

    def _looks(self, device: int) -> bool:
        """Say whether a device has to look who serves; all looked when they connected, at the beginning."""
        now_ms = self._kernel.now_ms
        looks = now_ms - self._looked_ms.get(device, 0.0) > self._trust_ms
        if looks:
            self._looked_ms[device] = now_ms
        return looks

    def _done(self, request: Request) -> None:
        """Begin the next text of a device that has ended one."""
        device = request.device
        queue = self._queues[device]
        if queue:
            self._make(*queue.popleft())
            return
        del self._queues[device]
        if device in self._thoughts:
            self._ask_later(device, REFUSED_MS if request.outcome == REFUSED else 0.0)


def _policy(scenario: Scenario) -> str:
    if scenario.way is Way.DISTRIBUTED or scenario.window.policy.startswith(scenario.way):
        return scenario.window.policy
    return scenario.way.value


def _offer(scenario: Scenario) -> Offer:
    modes = set(Mode)
    if scenario.verifiers.draft is None:
        modes.remove(Mode.COLOCATED)
    return Offer(scenario.window.max_window, scenario.window.max_depth, frozenset(modes))
