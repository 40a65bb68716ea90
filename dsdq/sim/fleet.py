"""All devices: when they ask for texts, and which. A device makes one at a time; those asked for meanwhile wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from dsdq.policies.window import Mode, Offer, WindowPolicy, load_policy
from dsdq.sim.device import Device, Generation, Setting
from dsdq.sim.held import UNKNOWN
from dsdq.sim.record import Request
from dsdq.sim.scenario.model import Scenario, Way
from dsdq.sim.streams import Streams
from dsdq.sim.texts import Text, Texts

_AT_ONCE = 1024

LoadPolicy = Callable[[str, Offer], WindowPolicy]


class Fleet:
    """The devices of one class. Those without a text take no memory."""

    def __init__(
        self,
        name: str,
        scenario: Scenario,
        setting: Setting,
        streams: Streams,
        texts: Texts,
        load: LoadPolicy = load_policy,
    ) -> None:
        self._name, self._figures = name, scenario.devices[name]
        self._number = list(scenario.devices).index(name)
        self._setting, self._kernel, self._streams, self._texts = setting, setting.kernel, streams, texts
        self._until_ms = 1000 * scenario.duration_s
        self._policy, self._offer, self._load = _policy(scenario), _offer(scenario), load
        self._queues: dict[int, deque[tuple[Request, Text]]] = {}
        self._arrivals = self._planned()
        self._thoughts = dict[int, Iterator[float]]()
        self._asked = dict[int, int]()

    def begin(self) -> None:
        """Plan the first requests."""
        if self._figures.arrivals.think_s is None:
            self._plan()
            return
        for device in range(self._figures.count):
            self._thoughts[device] = self._streams.exponentials(
                1000 * self._figures.arrivals.think_s, "thoughts", self._number, device
            )
            self._ask_later(device)

    # By chance, at a rate

    def _planned(self) -> Iterator[tuple[float, int]]:
        """Give times of requests in milliseconds, and the devices that they come to."""
        arrivals, count = self._figures.arrivals, self._figures.count
        per_s = arrivals.per_s or (arrivals.per_device_per_s or 0.0) * count
        luck, at_ms = self._streams.generator("arrivals", self._number), 0.0
        while True:
            gaps = luck.exponential(1000 / per_s, _AT_ONCE).tolist()
            for gap_ms, device in zip(gaps, luck.integers(count, size=_AT_ONCE).tolist(), strict=True):
                at_ms += gap_ms
                yield at_ms, device

    def _plan(self) -> None:
        at_ms, device = next(self._arrivals)
        if at_ms < self._until_ms:
            self._kernel.at(at_ms, self._arrive, device)

    def _arrive(self, device: int) -> None:
        number = self._asked[0] = self._asked.get(0, -1) + 1
        self._ask(device, self._texts.text(number))
        self._plan()

    # Again and again, each device for itself

    def _ask_later(self, device: int) -> None:
        at_ms = self._kernel.now_ms + next(self._thoughts[device])
        if at_ms < self._until_ms:
            self._kernel.at(at_ms, self._ask_again, device)

    def _ask_again(self, device: int) -> None:
        number = self._asked[device] = self._asked.get(device, -1) + 1
        self._ask(device, self._texts.text(device, number))

    # Texts

    def _ask(self, device: int, text: Text) -> None:
        record, figures = self._setting.record, self._figures
        number = len(record.requests)
        now_ms = self._kernel.now_ms
        request = Request(number, self._name, device, figures.tenant, now_ms, text.prompt, text.output)
        record.asked(request)
        queue = self._queues.get(device)
        if queue is None:
            self._queues[device] = deque()
            self._make(request, text)
        else:
            queue.append((request, text))

    def _make(self, request: Request, text: Text) -> None:
        figures, numbers = self._figures, (self._number, request.number)
        device = Device(figures, self._streams, numbers, self._kernel.now_ms)
        leaves_at = UNKNOWN
        if figures.leave:
            luck = self._streams.random("leave", *numbers)
            leaves_at = luck.randrange(text.output) if luck.random() < figures.leave else UNKNOWN
        policy = self._load(self._policy, self._offer)
        Generation(
            self._setting, request, policy, device, text.guesses, lambda: self._done(request.device), leaves_at
        ).begin()

    def _done(self, device: int) -> None:
        """Begin the next text of a device that has ended one."""
        queue = self._queues[device]
        if queue:
            self._make(*queue.popleft())
            return
        del self._queues[device]
        if device in self._thoughts:
            self._ask_later(device)


def _policy(scenario: Scenario) -> str:
    if scenario.way is Way.DISTRIBUTED or scenario.window.policy.startswith(scenario.way):
        return scenario.window.policy
    return scenario.way.value


def _offer(scenario: Scenario) -> Offer:
    modes = set(Mode)
    if scenario.verifiers.draft is None:
        modes.remove(Mode.COLOCATED)
    return Offer(scenario.window.max_window, scenario.window.max_depth, frozenset(modes))
