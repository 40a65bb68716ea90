"""What waits to be appended to session logs: in order, in one round trip for all of it, while the engine goes on.

A session's state here runs ahead of its log by what waits in this queue. That is safe, because only the owner appends:
an append can fail for good only if the session is no longer as we think it is, and then nothing of it is worth keeping.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.sessions import APPENDED, Commit, CommitStatus, Owned, Place, SessionStore
from dsdq.errors import RedisUnavailableError
from dsdq.session import SessionState
from dsdq.telemetry.logs import get_logger
from dsdq.tenants.usage import Usage
from dsdq.wire import Closed, Error, Message, pack
from workers.verifier.held import Held
from workers.verifier.step import Outcome

log = get_logger("verifier")

T = TypeVar("T")

RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Append:
    """A commit, if there is one, and the inbox entries that are answered once it is in the log."""

    held: Held
    commit: Commit | None
    answers: Sequence[Entry]


OnLost = Callable[[Held, CommitStatus, Sequence[Entry]], Sequence[Entry]]
OnClosed = Callable[[Held], None]


class Commits:
    """The queue.

    ``on_lost`` is told of a session that is not as we thought, with the entries whose answers are lost with it; it
    gives what else is to be acknowledged. ``on_closed`` is told of a session whose end is in its log.
    """

    def __init__(self, store: SessionStore, inbox: Inbox, on_lost: OnLost, on_closed: OnClosed) -> None:
        self.settled = 0
        self._store = store
        self._inbox = inbox
        self._on_lost = on_lost
        self._on_closed = on_closed
        self._waiting: deque[Append] = deque()
        self._news = asyncio.Event()
        self._progress = asyncio.Event()

    def add(self, held: Held, commit: Commit, answers: Sequence[Entry] = ()) -> None:
        """Queue a commit, and what it answers."""
        self._queue(Append(held, commit, answers))

    def settle(self, held: Held, answers: Sequence[Entry]) -> None:
        """Queue entries of a session that need no answer in its log."""
        if answers:
            self._queue(Append(held, None, answers))

    def closes(self, place: Place) -> bool:
        """Say whether a session's end waits for its log: it is not held any more, and still this worker's."""
        return any(
            one.commit is not None and one.commit.closes and one.held.place == place and not one.held.lost
            for one in self._waiting
        )

    async def shorter_than(self, appends: int) -> None:
        """Wait until fewer than ``appends`` wait: an engine must not run far ahead of a log that cannot be written."""
        while len(self._waiting) >= appends:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Append for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            while batch := list(self._waiting):
                await self._append(batch)
                for _ in batch:
                    self._waiting.popleft()
                self._progress.set()

    def _queue(self, append: Append) -> None:
        self._waiting.append(append)
        self._news.set()

    async def _append(self, batch: Sequence[Append]) -> None:
        """Commit and settle, however often Redis has to be asked.

        What arrived before its answer was lost is not appended again. Once the lease has lapsed, the heartbeat ends
        this worker, and this with it.
        """
        appends = [(one.held, one.commit) for one in batch if one.commit is not None and not one.held.lost]
        statuses = await self._insist(lambda: self._store.commit([commit for _, commit in appends]))
        answers: list[Entry] = []
        for (held, commit), status in zip(appends, statuses, strict=True):
            if status in APPENDED and commit.closes:
                self._on_closed(held)
            if status not in APPENDED and not held.lost:
                held.lost = status is not CommitStatus.GONE
                unanswered = [entry for one in self._waiting if one.held is held for entry in one.answers]
                answers += self._on_lost(held, status, unanswered)
        answers += [entry for one in batch if not one.held.lost for entry in one.answers]
        await self._insist(lambda: self._inbox.settle(answers))
        self.settled += len(answers)

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        tries = 0
        while True:
            try:
                return await ask()
            except RedisUnavailableError as error:
                tries += 1
                # A connection that breaks once is an everyday matter.
                (log.info if tries == 1 else log.warning)("commit interrupted", reason=str(error), tries=tries)
                await asyncio.sleep(RETRY_S)


def saying(state: SessionState, owned: Owned, entries: int, message: Message) -> Commit:
    """Return the commit of a message that leaves the text as it is, to a log that has ``entries`` entries."""
    return Commit(
        owned=owned,
        entries=entries,
        expected_length=state.transcript.length,
        length=state.transcript.length,
        digest=state.transcript.digest,
        round=state.answered,
        branch=state.branch,
        closes=False,
        messages=[pack(message, state.contract.version)],
    )


def closing(held: Held, message: Closed | Error, grace_s: float) -> Commit:
    """Return the commit of a session's last message; ``grace_s`` as :func:`deciding` has it."""
    commit = saying(held.state, held.owned, held.entries, message)
    return replace(commit, closes=True, usage=Usage(kv_token_ms=held.keep_ms(grace_s)))


def deciding(outcome: Outcome, closed: Closed | None, grace_s: float) -> Commit:
    """Return the commit of what a step decided, before it is taken in, with the receipt if the text ``closed`` with it.

    For its keys and values a session is charged ``grace_s`` of silence at most.
    """
    held, verdict = outcome.ready.held, outcome.verdict
    messages: list[Message] = [verdict] if closed is None else [verdict, closed]
    return Commit(
        owned=held.owned,
        entries=held.entries,
        expected_length=verdict.base,
        length=verdict.length,
        digest=verdict.digest,
        round=verdict.last_round if outcome.final else held.state.answered,
        branch=held.state.branch_after(verdict, granted=outcome.ready.granted),
        closes=closed is not None,
        messages=[pack(message, held.state.contract.version) for message in messages],
        usage=Usage.of(verdict, held.keep_ms(grace_s)),
    )
