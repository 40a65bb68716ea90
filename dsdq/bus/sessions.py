"""The session log: begun once, appended to by its owner alone, read by its device."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.bus.usage import month_of
from dsdq.contract import Contract
from dsdq.errors import GoneError
from dsdq.tenants.usage import NOTHING, Usage

OPEN, CLOSED = "open", "closed"
FIRST_EPOCH = 1
USAGE_TTL_MS = 400 * 86_400_000  # what was used is known for, after the last of it


class CommitStatus(StrEnum):
    """What became of a commit: only ``OK`` changed anything.

    ``DONE``: it was made before, and the answer was lost. ``GONE``: no such session, or it is closed. ``FENCED``:
    another worker owns it. ``BEHIND``: the log ends elsewhere, because Redis lost its last writes.
    """

    OK = "OK"
    DONE = "DONE"
    GONE = "GONE"
    FENCED = "FENCED"
    BEHIND = "BEHIND"


APPENDED = (CommitStatus.OK, CommitStatus.DONE)
ENDED = (*APPENDED, CommitStatus.GONE)
"""After these a session that was to be closed is; after others somebody has yet to take it over."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session's keys are. As text it is ``producer/tenant/session``."""

    producer: str
    tenant: str
    session: str

    def __str__(self) -> str:
        """Return it as it stands in a worker's set of sessions."""
        return f"{self.producer}/{self.tenant}/{self.session}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return the place that ``str`` gave."""
        return cls(*text.split("/"))

    @property
    def head(self) -> str:
        """Return the key of the head."""
        return keys.session_head(self.producer, self.tenant, self.session)

    @property
    def log(self) -> str:
        """Return the key of the log."""
        return keys.session_log(self.producer, self.tenant, self.session)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a log: its number from 1, its writer's epoch, its message; ``request`` is what the first answers."""

    number: int
    epoch: int
    message: bytes
    request: bytes | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What a takeover found: the new epoch and owner token, and the head as it was."""

    epoch: int
    owner: str
    entries: int
    round: int
    branch: int


@dataclass(frozen=True, slots=True)
class Owned:
    """A session and the proof of owning it: its epoch, and a token that nobody else knows.

    ``keys`` are those of head, log, feed and this month's usage.
    """

    contract: Contract
    epoch: int
    owner: str
    keys: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        """Name the keys once: every commit is sent to them."""
        place = place_of(self.contract)
        whose = place.producer, place.tenant
        usage = keys.usage(*whose, month_of(datetime.now(UTC)))
        object.__setattr__(self, "keys", (place.head, place.log, keys.feed(*whose), usage))


@dataclass(frozen=True, slots=True)
class Commit:
    """Messages to append in one go, if the log still has ``entries`` entries and ends at ``expected_length``.

    ``usage`` is what it is charged for. Other fields become the head's.
    """

    owned: Owned
    entries: int
    expected_length: int
    length: int
    digest: bytes
    round: int
    branch: int
    closes: bool
    messages: Sequence[bytes]
    usage: Usage = NOTHING


class SessionStore:
    """The writing side of session logs, for one worker."""

    def __init__(self, redis: Redis, worker: str, *, feed_entries: int, open_ttl_ms: int, closed_ttl_ms: int) -> None:
        self._redis = redis
        self._worker = worker
        self._feed_entries = feed_entries
        self._open_ttl_ms = open_ttl_ms
        self._closed_ttl_ms = closed_ttl_ms

    async def open(
        self, contract: Contract, *, length: int, digest: bytes, answer: bytes, request: bytes
    ) -> Owned | None:
        """Begin a session's log with its ``opened``; None when the session was answered before.

        The session joins the worker's set first, so that whoever inherits the worker finds every log it began.
        """
        owned = Owned(contract, FIRST_EPOCH, secrets.token_hex(16))
        with translated():
            await self._redis.sadd(keys.worker_sessions(self._worker), str(place_of(contract)))
        begun = await self._begin(owned, OPEN, length, digest, answer, request)
        return owned if begun else None

    async def head(self, place: Place) -> Head | None:
        """Return a session's head; see :func:`read_head`."""
        return await read_head(self._redis, place)

    async def entries(self, place: Place, after: int = 0) -> list[LogEntry]:
        """Return a session's log; see :func:`read_entries`."""
        return await read_entries(self._redis, place, after)

    async def take_over(self, place: Place, former: str) -> Taken | None:
        """Become the owner of a session that is ``former``'s; None if it is closed, gone or another's by now.

        It joins this worker's set first and leaves the former's last, so that a crash in between loses nothing. It
        joins once more when it is this worker's: :meth:`_leave` may have been at work in between.
        """
        owner, mine = secrets.token_hex(16), keys.worker_sessions(self._worker)
        with translated():
            await self._redis.sadd(mine, str(place))
            answer = await scripts.call(self._redis, "takeover", [place.head], [former, self._worker, owner])
            if answer[0] != b"OK":
                await self._leave(place, self._worker)
                await self._leave(place, former)
                return None
            await self._redis.sadd(mine, str(place))
        return Taken(answer[1], owner, *answer[2:])

    async def moved(self, place: Place, former: str) -> None:
        """Say that a session that was taken over is in this worker's hands for good."""
        if former != self._worker:
            with translated():
                await self._leave(place, former)

    async def _leave(self, place: Place, worker: str) -> None:
        """Take a session out of a worker's set, but for one that is the worker's by its head: it may be so again.

        A session in nobody's set would be found by no heir.
        """
        where = keys.worker_sessions(worker)
        await self._redis.srem(where, str(place))
        head = await read_head(self._redis, place)  # afterwards: whoever takes it over later joins later
        if head is not None and head.is_open and head.worker == worker:
            await self._redis.sadd(where, str(place))

    async def deaths(self, place: Place, former: str) -> int:
        """Return how many workers died in a step that fed a session's text, ``former`` the last of them."""
        with translated():
            return int(await self._redis.hget(keys.worker_tries(former), str(place)) or 0)

    async def note_deaths(self, deaths: Mapping[Place, int]) -> None:
        """Note what :meth:`deaths` is to tell the heir of this worker; 0 forgets a session."""
        pipeline, tries = self._redis.pipeline(transaction=False), keys.worker_tries(self._worker)
        for place, count in deaths.items():
            if count:
                pipeline.hset(tries, str(place), count)
            else:
                pipeline.hdel(tries, str(place))
        if deaths:
            with translated():
                await pipeline.execute()

    async def places(self, worker: str) -> list[Place]:
        """Return the sessions in a worker's set."""
        with translated():
            members = await self._redis.smembers(keys.worker_sessions(worker))
        return [Place.parse(member.decode()) for member in sorted(members)]

    async def disown(self, contract: Contract) -> None:
        """Take a session out of this worker's set."""
        with translated():
            await self._leave(place_of(contract), self._worker)

    async def refuse(self, contract: Contract, *, answer: bytes, request: bytes) -> None:
        """Begin and end a session's log with the error that refuses it; nothing happens if it was answered before."""
        await self._begin(Owned(contract, FIRST_EPOCH, ""), CLOSED, 0, b"", answer, request)

    async def commit(self, commits: Sequence[Commit]) -> list[CommitStatus]:
        """Append to several logs in one round trip; each succeeds or fails by itself."""
        if not commits:
            return []
        with translated():
            answers = await scripts.call_many(self._redis, "commit", [self._call(commit) for commit in commits])
            statuses = [CommitStatus(answer.decode()) for answer in answers]
            ended = [
                str(place_of(commit.owned.contract))
                for commit, status in zip(commits, statuses, strict=True)
                if commit.closes and status in ENDED
            ]
            if ended:
                await self._redis.srem(keys.worker_sessions(self._worker), *ended)
        return statuses

    async def _begin(
        self, owned: Owned, status: str, length: int, digest: bytes, answer: bytes, request: bytes
    ) -> bool:
        arguments: list[scripts.Argument] = [
            owned.contract.session,
            status,
            owned.epoch,
            owned.owner,
            self._worker,
            length,
            digest,
            answer,
            request,
            self._open_ttl_ms if status == OPEN else self._closed_ttl_ms,
            self._feed_entries,
            USAGE_TTL_MS,
        ]
        with translated():
            return bool(await scripts.call(self._redis, "open", owned.keys, arguments) == b"OK")

    def _call(self, commit: Commit) -> scripts.Call:
        owned = commit.owned
        return owned.keys, [
            owned.contract.session,
            owned.epoch,
            owned.owner,
            commit.entries,
            commit.expected_length,
            commit.length,
            commit.digest,
            commit.round,
            commit.branch,
            CLOSED if commit.closes else OPEN,
            self._closed_ttl_ms if commit.closes else self._open_ttl_ms,
            self._feed_entries,
            USAGE_TTL_MS,
            *commit.usage.of_commit,
            *commit.messages,
        ]


async def read_log(redis: Redis, contract: Contract, after: int) -> list[bytes]:
    """Return a log's messages behind entry number ``after``, in order."""
    return [entry.message for entry in await read_entries(redis, place_of(contract), after)]


async def read_entries(redis: Redis, place: Place, after: int = 0, most: int | None = None) -> list[LogEntry]:
    """Return a log's entries behind number ``after``, in order; no more than ``most``, if that is given."""
    with translated():
        entries = await redis.xrange(place.log, min=f"{after + 1}-0", count=most)
    return [log_entry(entry_id, fields) for entry_id, fields in entries]


async def read_news(redis: Redis, place: Place, seen: int, epoch: int, most: int | None = None) -> list[LogEntry]:
    """Return what is new in a log to who has seen its entries up to ``seen``, the last of them of ``epoch``.

    No more than ``most`` entries, if that is given: the first of them. A log that lost its end, because Redis lost its
    last writes, goes on under a higher epoch with numbers that were seen; those are new too.

    Raises:
        GoneError: there is no log any more.
    """
    entries = await read_entries(redis, place, seen, most)
    if not seen or (entries[0].epoch if entries else await _epoch(redis, place)) <= epoch:
        return entries
    page, after = await read_entries(redis, place, 0, most), 0
    while page and not (found := [entry for entry in page if entry.epoch > epoch]):
        after = page[-1].number
        page = await read_entries(redis, place, after, most)
    return found if page else []


async def _epoch(redis: Redis, place: Place) -> int:
    head = await read_head(redis, place)
    if head is None:
        msg = f"session {place.session}: expected its log, it is gone; nothing came for too long"
        raise GoneError(msg)
    return head.epoch


def log_entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> LogEntry:
    """Return a log's entry as Redis gave it."""
    return LogEntry(int(entry_id.split(b"-")[0]), int(fields[b"e"]), fields[b"m"], fields.get(b"o"))


@dataclass(frozen=True, slots=True)
class Head:
    """What a session's head says to whoever looks for its owner."""

    epoch: int
    worker: str
    is_open: bool


async def read_head(redis: Redis, place: Place) -> Head | None:
    """Return a session's head, None when there is none (any more)."""
    with translated():
        epoch, worker, status = await redis.hmget(place.head, "epoch", "worker", "status")
    return None if epoch is None else Head(int(epoch), worker.decode(), status.decode() == OPEN)


def place_of(contract: Contract) -> Place:
    """Return where the keys of a contract's session are."""
    return Place(contract.producer, contract.tenant, contract.session)
