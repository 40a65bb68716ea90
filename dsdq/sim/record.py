"""What a simulation keeps of what happens: a line for each request, sums over all verifiers, a log if one is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dsdq.policies.window import Choice
from dsdq.sim.messages import Verdict, Window

FINISHED, REFUSED, LEFT = "finished", "refused", "left"

SLICES = 120
"""Parts of a simulation's time in which committed tokens are counted."""

Log = Callable[..., None]
"""Takes an event: its time in milliseconds, its kind, and what it is about."""


@dataclass(slots=True)
class Request:
    """One request, and what became of it. Times in milliseconds on the clock, lengths in tokens.

    ``place_ms`` is what its session waited for a place, pauses between tries among it. ``network_ms``, ``queue_ms`` and
    ``verify_ms`` are sums over its verdicts of what each was waited for beside that; ``draft_ms`` over all windows that
    the device sent, of ``drafted`` tokens; verifiers drafted ``own_drafted`` for it. For ``drafter_ms`` the device's
    drafter worked: it read the prompt too, guessed along with streams, and began drafts that verdicts made vain.
    Verifiers kept ``kv_token_ms`` of text. ``stream_tokens`` were committed where the device did not draft. The last
    ``chosen`` verdicts of what is measured came under one ``choice``.
    """

    number: int
    devices: str
    device: int
    tenant: str
    arrival_ms: float
    prompt: int
    output: int
    began_ms: float = 0.0
    first_ms: float = -1.0
    ended_ms: float = -1.0
    outcome: str = ""
    committed: int = 0
    rounds: int = 0
    drafted: int = 0
    own_drafted: int = 0
    judged: int = 0
    accepted: int = 0
    stream_tokens: int = 0
    place_ms: float = 0.0
    network_ms: float = 0.0
    queue_ms: float = 0.0
    verify_ms: float = 0.0
    draft_ms: float = 0.0
    drafter_ms: float = 0.0
    kv_token_ms: float = 0.0
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    repeats: int = 0
    retries: int = 0
    choice: Choice | None = None
    chosen: int = 0


class Record:
    """Keeps what is asked for later. Between ``begin_ms`` and ``end_ms`` all is measured but what becomes of requests.

    ``committed`` counts tokens of that time, by tenant. ``by_slice`` counts them in :data:`SLICES` equal parts of the
    time until ``end_ms``; what rounding puts behind the last of them comes into one more.
    """

    def __init__(self, begin_ms: float, end_ms: float, log: Log | None = None) -> None:
        self.begin_ms, self.end_ms, self.log = begin_ms, end_ms, log
        self.requests: list[Request] = []
        self.choices: Counter[Choice] = Counter()
        self.committed: Counter[str] = Counter()
        self.by_slice = [0] * (SLICES + 1)
        self._slices_per_ms = SLICES / end_ms
        self.steps, self.rows, self.positions, self.busy_ms = 0, 0, 0, 0.0
        self.evictions, self.takeovers, self.failures = 0, 0, 0
        self.events = 0

    def measures(self, now_ms: float) -> bool:
        """Say whether what happens then is measured."""
        return self.begin_ms <= now_ms < self.end_ms

    def asked(self, request: Request) -> None:
        """Take note of a request that has come."""
        self.requests.append(request)
        if self.log is not None:
            self.log(request.arrival_ms, "asked", request.number, request.device, request.prompt, request.output)

    def published(self, request: Request, window: Window) -> None:
        """Take note of a window that was sent."""
        request.drafted += window.size
        request.draft_ms += window.draft_ms
        if self.log is not None:
            self.log(window.published_ms, "window", request.number, window.number, window.base, window.size)

    def read(self, request: Request, verdict: Verdict, waited_ms: float, now_ms: float) -> None:
        """Take note of a verdict that was read, and how long it was waited for."""
        if request.first_ms < 0:
            request.first_ms = now_ms
        request.rounds += 1
        request.committed += verdict.committed
        request.judged += verdict.drafted
        request.accepted += verdict.accepted
        if not verdict.windows:
            request.stream_tokens += verdict.committed
            request.own_drafted += verdict.drafted
        request.kv_token_ms += verdict.kv_token_ms
        request.queue_ms += verdict.queue_ms
        request.verify_ms += verdict.verify_ms
        beyond_ms = waited_ms - verdict.queue_ms - verdict.verify_ms
        request.network_ms = max(request.network_ms + beyond_ms, 0.0)  # negative by rounding alone
        if verdict.choice is not request.choice:
            self._chose(request)
            request.choice, request.chosen = verdict.choice, 0
        if now_ms < self.end_ms:
            self.by_slice[int(now_ms * self._slices_per_ms)] += verdict.committed
            if now_ms >= self.begin_ms:
                self.committed[request.tenant] += verdict.committed
                request.chosen += 1
        if self.log is not None:
            self.log(now_ms, "verdict", request.number, verdict.length, verdict.accepted, verdict.drafted)

    def _chose(self, request: Request) -> None:
        """Count the verdicts in turn that came under one choice."""
        if request.choice is not None and request.chosen:
            self.choices[request.choice] += request.chosen

    def worked(self, started_ms: float, ended_ms: float, rows: int, positions: int) -> None:
        """Take note of a pass, as far as it lies within what is measured."""
        within_ms = min(ended_ms, self.end_ms) - max(started_ms, self.begin_ms)
        if within_ms > 0:
            self.steps += 1
            self.rows += rows
            self.positions += positions
            self.busy_ms += within_ms

    def ended(self, request: Request, outcome: str, now_ms: float) -> None:
        """Take note of what became of a request."""
        request.outcome, request.ended_ms = outcome, now_ms
        self._chose(request)
        if self.log is not None:
            self.log(now_ms, outcome, request.number, request.committed)


def digesting(update: Callable[[bytes], Any]) -> Log:
    """Return a log that feeds each event to a digest."""

    def _log(*event: object) -> None:
        update(repr(event).encode())

    return _log
