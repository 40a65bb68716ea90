"""The device and its verifier as events in time order. One seed, one outcome."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from dsdq.policies.pipeline.world import Draws, World
from dsdq.policies.window.protocol import (
    GUESS_EVERY_TOKENS,
    GUESSED_TOKENS,
    Choice,
    Mode,
    Observation,
    WindowPolicy,
    far_from,
)

WorldAt = Callable[[float], World]
"""From milliseconds since the beginning to the speeds at that time."""


@dataclass(frozen=True, slots=True)
class Round:
    """One verdict as the device met it: when, what had been asked for, and how many tokens it committed."""

    time_ms: float
    choice: Choice
    committed: int


@dataclass(slots=True)
class Outcome:
    """What a simulated generation came to. ``wasted`` counts drafted tokens that no verdict accepted."""

    drafted: int = 0
    wasted: int = 0
    rounds: list[Round] = field(default_factory=list)

    @property
    def committed(self) -> int:
        """Return the committed tokens."""
        return sum(one.committed for one in self.rounds)

    def tokens_per_s(self, warm_up_rounds: int = 0) -> float:
        """Return committed tokens per second, without the first rounds."""
        start_ms = self.rounds[warm_up_rounds - 1].time_ms if warm_up_rounds else 0.0
        committed = sum(one.committed for one in self.rounds[warm_up_rounds:])
        return 1000 * committed / (self.rounds[-1].time_ms - start_ms)


@dataclass(slots=True)
class _Window:
    """A drafted window: positions ``base`` to ``base + size - 1``."""

    branch: int
    base: int
    size: int
    draft_ms: float
    choice: Choice
    in_flight: int = 0
    published_ms: float = 0.0
    arrived_ms: float = 0.0
    link_ms: float = 0.0
    confidences: tuple[float, ...] = ()

    @property
    def end(self) -> int:
        """Return the position behind it."""
        return self.base + self.size


@dataclass(slots=True)
class _Verdict:
    """What the verifier says, and what the device will have to know of it."""

    choice: Choice
    drafted: int
    accepted: int
    committed: int
    length: int
    queue_ms: float
    verify_ms: float
    keeps: bool = False
    part: int = 0
    windows: tuple[_Window, ...] = ()


class _Clock:
    """Time, and what is still to happen."""

    def __init__(self, world_at: WorldAt) -> None:
        self.now_ms = 0.0
        self._world_at = world_at
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    @property
    def world(self) -> World:
        """Return the speeds now."""
        return self._world_at(self.now_ms)

    def at(self, time_ms: float, event: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._events, (time_ms, next(self._order), event))

    def advance(self) -> bool:
        """Let the next thing happen; False if nothing is left."""
        if not self._events:
            return False
        self.now_ms, _, event = heapq.heappop(self._events)
        event()
        return True


class _Verifier:
    """Serves rounds in order; what waits together and continues each other becomes one row."""

    def __init__(self, clock: _Clock, draws: Draws, answer: Callable[[_Verdict], None]) -> None:
        self._clock, self._draws, self._answer = clock, draws, answer
        self._length, self._branch = 0, 0
        self._waiting: deque[_Window] = deque()
        self._busy = False
        self._granted, self._part, self._asked = 0, 0, Choice(0)

    def take(self, window: _Window) -> None:
        """Receive a window."""
        window.arrived_ms = self._clock.now_ms
        self._waiting.append(window)
        if not self._busy:
            self._busy = True
            wait_ms = self._draws.wait_ms(self._clock.world, window.size + 1)
            self._clock.at(self._clock.now_ms + wait_ms, self._start)

    def grant(self, end: int, choice: Choice, *, fresh: bool) -> None:
        """Receive a grant of all positions before ``end``; a ``fresh`` one begins a stream."""
        asked_ms, idle = self._clock.now_ms, self._granted <= self._length
        self._granted, self._asked = max(self._granted, end), choice
        if idle:
            self._part = 0 if fresh else self._part
            wait_ms = self._draws.wait_ms(self._clock.world, 1)
            self._clock.at(asked_ms + wait_ms, lambda: self._stream(wait_ms))

    def _stream(self, queue_ms: float) -> None:
        world, choice = self._clock.world, self._asked
        drafted = choice.window
        accepted = 0
        while accepted < drafted and self._draws.server_right(world, self._length + accepted):
            accepted += 1
        verify_ms = drafted * world.server_draft_ms + world.pass_ms(drafted + 1)
        committed = min(accepted + 1, self._granted - self._length)

        def _done() -> None:
            self._length += committed
            self._branch += 1
            self._answer(_Verdict(choice, drafted, accepted, committed, self._length, queue_ms, verify_ms, part=part))
            if self._granted > self._length:
                self._stream(0.0)

        part, self._part = self._part, self._part + 1
        self._clock.at(self._clock.now_ms + verify_ms, _done)

    def _start(self) -> None:
        windows = [one for one in self._waiting if one.branch == self._branch]
        self._waiting.clear()
        if not windows:
            self._busy = False
            return
        world, started_ms = self._clock.world, self._clock.now_ms
        drafted = windows[-1].end - self._length
        verify_ms = world.pass_ms(drafted + 1)
        accepted = 0
        while accepted < drafted and self._draws.right(world, self._length + accepted):
            accepted += 1

        def _done() -> None:
            self._length += accepted + 1
            # The token after a draft that stands is the next window's first, if the device guessed it.
            keeps = accepted == drafted and self._draws.right(world, self._length - 1)
            self._branch += not keeps
            queue_ms = started_ms - windows[0].arrived_ms
            self._answer(
                _Verdict(
                    windows[0].choice,
                    drafted,
                    accepted,
                    accepted + 1,
                    self._length,
                    queue_ms,
                    verify_ms,
                    keeps=keeps,
                    windows=tuple(windows),
                )
            )
            self._start()

        self._clock.at(started_ms + verify_ms, _done)


class _Device:
    """Drafts ahead of its verdicts, as far and as deep as its policy says."""

    def __init__(self, clock: _Clock, draws: Draws, policy: WindowPolicy, *, sees: bool) -> None:
        self.outcome = Outcome()
        self._clock, self._draws, self._policy, self._sees = clock, draws, policy, sees
        self._verifier = _Verifier(clock, draws, self._answer)
        self._length, self._next, self._branch = 0, 0, 0
        self._flight: deque[_Window] = deque()
        self._drafting: _Window | None = None
        self._granted, self._asked_ms = 0, 0.0
        self._last_grant = Choice(0)
        self._link_ms: float | None = None
        self._sent_ms, self._read_ms, self._guess_free_ms = 0.0, 0.0, 0.0
        self._guess_from = 0

    @property
    def committed(self) -> int:
        """Return the tokens that it knows to be committed."""
        return self._length

    def go_on(self) -> None:
        """Draft the next window or ask for a grant, if it is time to."""
        choice = self._policy.choose()
        if choice.mode is not Mode.SPECULATE:
            if not self._flight and self._drafting is None and self._granted <= self._length:
                self._grant(choice)
            return
        if self._granted > self._length or self._drafting or len(self._flight) >= choice.depth:
            return
        world = self._clock.world
        window = _Window(self._branch, self._next, 0, 0.0, choice)
        confidences = []
        for drafted in range(min(choice.window, world.ready_tokens)):
            confidence = self._draws.confidence(world, self._next + drafted)
            confidences.append(confidence)
            if not self._policy.wants_more(confidence, drafted + 1):
                break
        window.confidences = tuple(confidences) if world.spread else ()
        window.size = len(confidences)
        window.draft_ms = window.size * world.draft_ms
        self._drafting = window
        self._clock.at(self._clock.now_ms + window.draft_ms, lambda: self._publish(window))

    def _publish(self, window: _Window) -> None:
        if window is not self._drafting:
            return
        window.published_ms, window.in_flight = self._clock.now_ms, len(self._flight)
        self._drafting, self._next = None, window.end
        self._flight.append(window)
        self.outcome.drafted += window.size
        self._send(lambda: self._verifier.take(window))
        self.go_on()

    def _send(self, event: Callable[[], None]) -> None:
        world = self._clock.world
        delay_ms = self._draws.delay_ms(world)
        self._link_ms = delay_ms + world.rtt_ms / 2
        self._sent_ms = max(self._sent_ms, self._clock.now_ms + delay_ms)
        self._clock.at(self._sent_ms, event)

    def _grant(self, choice: Choice) -> None:
        fresh = self._granted <= self._length
        if fresh:
            self._asked_ms = self._clock.now_ms
        self._granted = end = max(self._granted, self._length + choice.budget)
        self._last_grant = choice
        self._send(lambda: self._verifier.grant(end, choice, fresh=fresh))

    def _answer(self, verdict: _Verdict) -> None:
        self._read_ms = max(self._read_ms, self._clock.now_ms + self._draws.delay_ms(self._clock.world))
        read = self._read_stream if verdict.choice.mode is not Mode.SPECULATE else self._read_verdict
        self._clock.at(self._read_ms, lambda: read(verdict))

    def _read_verdict(self, verdict: _Verdict) -> None:
        last = verdict.windows[-1]
        ahead = verdict.accepted == verdict.drafted and (self._drafting is not None or self._flight[-1] is not last)
        windows = verdict.windows if verdict.keeps else tuple(self._flight)
        for window in windows:
            self._flight.remove(window)
        self._length = verdict.length
        self.outcome.wasted += sum(window.size for window in windows) - verdict.accepted
        if not verdict.keeps:
            self._branch += 1
            self._drafting, self._next = None, verdict.length
        elif not self._flight and self._drafting is None:
            self._next = verdict.length
        self._observe(verdict, verdict.windows[0].published_ms, ahead=ahead)
        self.go_on()

    def _read_stream(self, verdict: _Verdict) -> None:
        self._length = self._next = verdict.length
        self._branch += 1
        self._observe(verdict, self._asked_ms)
        self._asked_ms = self._clock.now_ms
        choice = self._policy.choose()
        left = self._granted - self._length
        other = verdict.choice is self._last_grant and far_from(choice.window, self._last_grant.window)
        if choice.mode is not Mode.SPECULATE and (other or 2 * left <= choice.budget):
            self._grant(choice)
        elif not left:
            self.go_on()

    def _guessed(self, length: int) -> tuple[int, int]:
        """Return how many tokens of a stream were guessed by now, along with it, and how many of them right.

        Some tokens in a row are guessed now and then; what is guessed behind a mistake is nobody's guess of this text.
        """
        world, now_ms = self._clock.world, self._clock.now_ms
        if not self._sees or length < self._guess_from + GUESSED_TOKENS or now_ms < self._guess_free_ms:
            return 0, 0
        right = 0
        while right < GUESSED_TOKENS and self._draws.right(world, self._guess_from + right):
            right += 1
        self._guess_from = max(self._guess_from + GUESS_EVERY_TOKENS, length)
        self._guess_free_ms = now_ms + GUESSED_TOKENS * world.draft_ms
        return min(right + 1, GUESSED_TOKENS), right

    def _observe(self, verdict: _Verdict, since_ms: float, *, ahead: bool = False) -> None:
        world, now_ms, windows = self._clock.world, self._clock.now_ms, verdict.windows
        link_ms, self._link_ms = self._link_ms, None
        guessed, right = (int(ahead), int(ahead and verdict.keeps)) if windows else self._guessed(verdict.length)
        self.outcome.rounds.append(Round(now_ms, verdict.choice, verdict.committed))
        self._policy.observe(
            Observation(
                drafted=verdict.drafted,
                accepted=verdict.accepted,
                draft_ms=sum(window.draft_ms for window in windows),
                draft_token_ms=world.draft_ms if windows else 0.0,
                round_trip_ms=now_ms - since_ms,
                queue_ms=verdict.queue_ms,
                verify_ms=verdict.verify_ms,
                committed=verdict.committed,
                mode=verdict.choice.mode,
                time_ms=now_ms,
                part=verdict.part,
                in_flight=windows[0].in_flight if windows else 0,
                max_window=world.ready_tokens,
                link_ms=link_ms if self._sees else None,
                confidences=tuple(one for window in windows for one in window.confidences),
                guessed=guessed,
                guessed_right=right,
                guess_ms=0.0 if windows else guessed * world.draft_ms,
            )
        )


def simulate(
    policy: WindowPolicy,
    world: World | WorldAt,
    *,
    seed: int,
    tokens: int,
    sees: bool = True,
    known: Mapping[int, bool] | None = None,
) -> Outcome:
    """Return what a generation of ``tokens`` tokens comes to under ``policy``.

    Args:
        policy: what chooses; it keeps what it learns.
        world: the speeds, or how they change.
        seed: of all luck. Which guesses are right depends on seed and position alone, so policies can be compared.
        tokens: to be committed.
        sees: whether the device guesses along with streams and measures its link.
        known: by position, whether the device's guess is right, where a live run has shown it.
    """
    clock = _Clock(world if callable(world) else lambda _: world)
    device = _Device(clock, Draws(seed, known), policy, sees=sees)
    device.go_on()
    committed = 0
    while committed < tokens and clock.advance():
        committed = device.committed
    return device.outcome
