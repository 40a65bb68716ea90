"""A session as a verifier of the simulation holds it: what was decided, and what waits for the next step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from dsdq.policies.batching import Work
from dsdq.policies.steering import Turnaround
from dsdq.policies.window import Acceptance, Choice
from dsdq.sim.guesses import Guesses
from dsdq.sim.messages import Answer, Grant, Verdict, Window
from dsdq.sim.scenario.parts import live

if TYPE_CHECKING:
    from dsdq.policies.paging import Holding
    from dsdq.sim.verifier import Verifier

UNKNOWN = 1 << 30
KEPT_MS: int = live("kv_grace_ms")


class Round:
    """What a session wants of a step: windows to be judged together, or, with none, the next tokens of a grant.

    ``drafted`` positions are judged; those of a grant the verifier is to draft itself, where ``most`` were granted.
    """

    __slots__ = ("drafted", "most", "windows")

    def __init__(self, windows: tuple[Window, ...], drafted: int, most: int = 0) -> None:
        self.windows, self.drafted, self.most = windows, drafted, most

    @property
    def wanted(self) -> int:
        """Return how many tokens the verifier is to draft."""
        return 0 if self.windows else self.drafted


class Held:
    """One session. Its text has a ``prompt`` and ends by itself after ``output`` tokens, of which ``length`` are made.

    ``told`` is where the verifier knows it to end: its ``max_tokens``.
    """

    __slots__ = (
        "acceptance",
        "ahead",
        "answer",
        "branch",
        "decided",
        "ended",
        "fed",
        "grant_choice",
        "grant_end",
        "guesses",
        "holding",
        "kept_ms",
        "key",
        "length",
        "opened_ms",
        "output",
        "own_acceptance",
        "own_guesses",
        "part",
        "pending",
        "prompt",
        "since_ms",
        "tenant",
        "told",
        "turnaround",
        "verifier",
    )

    def __init__(
        self,
        key: str,
        tenant: str,
        prompt: int,
        output: int,
        guesses: tuple[Guesses, Guesses],
        answer: Callable[[Answer], None],
        *,
        known_length: bool,
    ) -> None:
        self.key, self.tenant, self.prompt, self.output = key, tenant, prompt, output
        self.told = output if known_length else UNKNOWN
        self.guesses, self.own_guesses = guesses
        self.answer = answer
        self.verifier: Verifier | None = None
        self.holding: Holding | None = None
        self.length, self.branch, self.decided = 0, 0, 0
        self.pending: deque[Window] = deque()
        self.ahead: list[Window] = []
        self.grant_end, self.grant_choice, self.part = 0, Choice(0), 0
        self.since_ms, self.opened_ms, self.kept_ms = 0.0, 0.0, 0.0
        self.fed, self.ended = False, False
        self.acceptance, self.own_acceptance = Acceptance(), Acceptance()
        self.turnaround = Turnaround()

    @property
    def granted(self) -> bool:
        """Say whether a grant is not used up."""
        return self.grant_end > self.length

    @property
    def asks(self) -> bool:
        """Say whether a round of it waits."""
        return bool(self.pending) or self.grant_end > self.length

    @property
    def waits(self) -> bool:
        """Say whether it could use a step: a round waits, or its text is not fed."""
        return not self.ended and (self.asks or not self.fed)

    @property
    def cached(self) -> int:
        """Return how many tokens of its text have keys and values."""
        return 0 if self.holding is None else self.holding.cached

    @property
    def unfed(self) -> int:
        """Return how many tokens are to be fed before its round: the text's last one goes with that."""
        return self.prompt + self.length - 1 - self.cached

    def work(self, wanted: Round | None) -> Work:
        """Return what it could use of a step: its text's next tokens, and what its round takes if one waits."""
        verify = 0 if wanted is None else wanted.drafted + 1
        return Work(self.key, self.cached, self.unfed, verify, self.since_ms / 1000, self.tenant)

    def receive(self, message: Window | Grant, now_ms: float) -> None:
        """Take a round in; one that is decided, waits already or was given up is nothing new."""
        if isinstance(message, Grant):
            if message.end <= self.length or message.end < self.grant_end:
                return
            if not self.granted:
                self.since_ms = now_ms
                self.turnaround.asked(now_ms / 1000)
                self.part = 0 if message.fresh else self.part
            self.grant_end, self.grant_choice = message.end, message.choice
            return
        if message.number <= self.decided or message.branch < self.branch:
            return
        waiting = (*self.pending, *self.ahead) if self.pending or self.ahead else ()
        if any(one.number == message.number for one in waiting):
            return
        message.arrived_ms = now_ms
        if message.base > self.end:
            self.ahead.append(message)
            return
        if not self.pending:
            self.since_ms = now_ms
            self.turnaround.asked(now_ms / 1000)
        self.pending.append(message)
        if len(self.pending) > 1 and self.pending[-2].number > message.number:  # overtaken by those behind it
            self.pending = deque(sorted(self.pending, key=lambda one: one.number))
        if self.ahead:
            self._take_ahead()

    @property
    def end(self) -> int:
        """Return the position behind all that is here in turn."""
        return self.pending[-1].end if self.pending else self.length

    def next_windows(self, merged_window: int) -> tuple[Window, ...]:
        """Return the first waiting window with those behind it that go on where it ends, within so many tokens."""
        pending = self.pending
        if len(pending) == 1:
            return (pending[0],)
        windows = [pending[0]]
        for window in list(pending)[1:]:
            if window.end - self.length > merged_window:
                break
            windows.append(window)
        return tuple(windows)

    def learn(self, verdict: Verdict) -> None:
        """Take note of how good drafts are: its device's, and a verifier's."""
        if verdict.windows:
            self.acceptance.add(verdict.drafted, verdict.accepted, verdict.committed)
            self.own_acceptance.add(0, 0, verdict.committed)
        else:
            self.own_acceptance.add(verdict.drafted, verdict.accepted, verdict.committed)
            self.acceptance.add(0, 0, verdict.committed)

    def keep(self, now_ms: float) -> float:
        """Return what its keys and values are charged for since they were last, in token-milliseconds.

        As live for :data:`KEPT_MS` at most: whoever is silent for longer may lose them, and costs nobody anything.
        """
        took_ms, self.kept_ms = min(now_ms - self.kept_ms, KEPT_MS), now_ms
        return took_ms * (self.prompt + self.length)

    def answered(self, windows: tuple[Window, ...], now_ms: float) -> None:
        """Take out windows that have their verdict, and what it has made stale."""
        self.decided = windows[-1].number
        if len(self.pending) == len(windows) and not self.ahead:
            self.pending.clear()
        else:
            self.pending = deque(one for one in self.pending if one.number > self.decided and one.branch >= self.branch)
            self.ahead = [one for one in self.ahead if one.branch >= self.branch]
            self._take_ahead()
        if self.pending:
            self.since_ms = self.pending[0].arrived_ms
        else:
            self.turnaround.answered_s = now_ms / 1000

    def _take_ahead(self) -> None:
        """Let windows wait whose predecessors are here now."""
        self.ahead.sort(key=lambda one: one.number)
        while self.ahead and self.ahead[0].base <= self.end:
            self.pending.append(self.ahead.pop(0))
