"""All verifiers: where new sessions go, by figures as old as the last heartbeat, and what becomes of those that die."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from dsdq.policies import routing
from dsdq.sim.held import Held
from dsdq.sim.kernel import Kernel
from dsdq.sim.messages import Request
from dsdq.sim.record import Record
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.scenario.parts import live
from dsdq.sim.streams import Streams
from dsdq.sim.verifier import Verifier

EXPIRY_MS: int = live("quiet_ms")
"""For so long a session keeps its place whose device has gone away: then it lends it to others."""

_PER_HOUR_MS = 3_600_000.0


class Server(Protocol):
    """Whoever has a registry entry."""

    wid: str
    slots: int
    row_ms: float
    alive: bool

    @property
    def sessions(self) -> int:
        """Return how many sessions it holds."""
        ...


S = TypeVar("S", bound=Server)


class Entry(Generic[S]):
    """A verifier's registry entry, as of its last heartbeat.

    It is written when it is first looked at behind the moment of a heartbeat, which saves an event for each.
    """

    __slots__ = ("_beats", "_phase", "row_ms", "sessions", "slots", "verifier", "wid")

    def __init__(self, verifier: S, phase: float) -> None:
        self.verifier, self.wid, self.slots = verifier, verifier.wid, verifier.slots
        self.sessions, self.row_ms = 0, 0.0
        self._phase, self._beats = phase, -1

    def look(self, now_ms: float, heartbeat_ms: float) -> None:
        """Be as the latest heartbeat wrote it; one that is dead writes no more."""
        beats = int(now_ms / heartbeat_ms + self._phase)
        if beats != self._beats and self.verifier.alive:
            self._beats = beats
            self.sessions, self.row_ms = self.verifier.sessions, self.verifier.row_ms


class Cloud:
    """See the module. ``streams`` is where luck comes from."""

    def __init__(self, kernel: Kernel, scenario: Scenario, streams: Streams, record: Record) -> None:
        self.streams = streams
        self._kernel, self._scenario, self._record = kernel, scenario, record
        self._figures = scenario.verifiers
        self._choose = routing.POLICIES[scenario.routing.policy](streams.random("routing"))
        self._loss, self._losses = scenario.broker.loss, streams.random("losses")
        self._registry: list[Entry[Verifier]] = []
        self._homeless: list[Held] = []
        self._started = 0
        for _ in range(self._figures.count):
            self._start(None)

    def route(self) -> Verifier | None:
        """Return the verifier that a new session is to ask; None where nobody serves."""
        if len(self._registry) > 1:
            now_ms, heartbeat_ms = self._kernel.now_ms, self._figures.heartbeat_ms
            for entry in self._registry:
                entry.look(now_ms, heartbeat_ms)
            chosen: Entry[Verifier] = self._choose(self._registry, b"")  # type: ignore[assignment] # one of those given
            return chosen.verifier
        return self._registry[0].verifier if self._registry else None

    def open(self, held: Held, verifier: Verifier) -> float | None:
        """Let a verifier take a session in, or say when to come back (:meth:`Verifier.open`); None where it is dead."""
        return verifier.open(held) if verifier.alive else None

    def receive(self, held: Held, message: Request) -> None:
        """Let a session's verifier have a message; while it has none, the message waits in the inbox."""
        if held.verifier is not None:
            held.verifier.receive(held, message)
        elif not held.ended:
            held.receive(message, self._kernel.now_ms)

    def loses(self) -> bool:
        """Say whether Redis loses what is published now, in a failover."""
        return self._losses.random() < self._loss

    def abandon(self, held: Held) -> None:
        """Let a session expire whose device has gone away."""
        self._kernel.after(EXPIRY_MS, self._expire, held)

    def _expire(self, held: Held) -> None:
        held.ended = True
        if held.verifier is not None:
            held.verifier.release(held)

    # Verifiers that die

    def _start(self, _: object) -> None:
        """Let a verifier begin to serve, and take over who has none."""
        number, self._started = self._started, self._started + 1
        luck = self.streams.random("verifier", number)
        verifier = Verifier(
            f"v{number}", self._kernel, self._scenario, self._record, self.streams.random("steps", number)
        )
        self._registry.append(Entry(verifier, luck.random()))
        homeless, self._homeless = self._homeless, []
        for held in homeless:
            self._adopt(held)
        if self._figures.failures_per_hour:
            fails_ms = self._kernel.now_ms + luck.expovariate(self._figures.failures_per_hour / _PER_HOUR_MS)
            if fails_ms < 1000 * self._scenario.duration_s:
                self._kernel.at(fails_ms, self._fail, verifier)

    def _fail(self, verifier: Verifier) -> None:
        """Let a verifier die: its lease lapses, others take its sessions over, and it comes back as another one."""
        self._record.failures += self._record.measures(self._kernel.now_ms)
        orphans = verifier.fail()
        self._kernel.after(self._figures.lease_ms, self._lapse, (verifier, orphans))
        self._kernel.after(1000 * self._figures.return_s, self._start)

    def _lapse(self, lapsed: tuple[Verifier, list[Held]]) -> None:
        verifier, orphans = lapsed
        self._registry = [entry for entry in self._registry if entry.verifier is not verifier]
        for held in orphans:
            self._adopt(held)

    def _adopt(self, held: Held) -> None:
        """Let a verifier that has the fewest sessions take one over, and build its text again."""
        if held.ended:
            return
        serving = [entry.verifier for entry in self._registry if entry.verifier.alive]
        if not serving:
            self._homeless.append(held)
            return
        self._record.takeovers += self._record.measures(self._kernel.now_ms)
        min(serving, key=lambda verifier: verifier.sessions).admit(held)
