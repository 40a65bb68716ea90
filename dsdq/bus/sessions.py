"""The session log: begun once, appended to by its owner alone, read by its device."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.contract import Contract

OPEN, CLOSED = "open", "closed"
FIRST_EPOCH = 1


class CommitStatus(StrEnum):
    """What became of a commit: only ``OK`` changed anything.

    ``GONE``: no such session, or it is closed. ``FENCED``: another worker owns it. ``LENGTH``: it was committed before.
    """

    OK = "OK"
    GONE = "GONE"
    FENCED = "FENCED"
    LENGTH = "LENGTH"


@dataclass(frozen=True, slots=True)
class Owned:
    """A session and the proof of owning it: its epoch, and a token that nobody else knows."""

    contract: Contract
    epoch: int
    owner: str

    @property
    def keys(self) -> list[str]:
        """Return the keys of head, log and feed."""
        terms = self.contract
        return [
            keys.session_head(terms.producer, terms.tenant, terms.session),
            keys.session_log(terms.producer, terms.tenant, terms.session),
            keys.feed(terms.producer, terms.tenant),
        ]


@dataclass(frozen=True, slots=True)
class Commit:
    """Messages to append in one go, if the log still ends at ``expected_length``; other fields become the head's."""

    owned: Owned
    expected_length: int
    length: int
    digest: bytes
    round: int
    branch: int
    closes: bool
    messages: Sequence[bytes]


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
            await self._redis.sadd(keys.worker_sessions(self._worker), "/".join(_place(contract)))
        begun = await self._begin(owned, OPEN, length, digest, answer, request)
        return owned if begun else None

    async def refuse(self, contract: Contract, *, answer: bytes, request: bytes) -> None:
        """Begin and end a session's log with the error that refuses it; nothing happens if it was answered before."""
        await self._begin(Owned(contract, FIRST_EPOCH, ""), CLOSED, 0, b"", answer, request)

    async def commit(self, commits: Sequence[Commit]) -> list[CommitStatus]:
        """Append to several logs in one round trip; each succeeds or fails by itself."""
        if not commits:
            return []
        with translated():
            answers = await scripts.call_many(self._redis, "commit", [self._call(commit) for commit in commits])
            ended = ["/".join(_place(commit.owned.contract)) for commit in commits if commit.closes]
            if ended:
                await self._redis.srem(keys.worker_sessions(self._worker), *ended)
        return [CommitStatus(answer.decode()) for answer in answers]

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
        ]
        with translated():
            return bool(await scripts.call(self._redis, "open", owned.keys, arguments) == b"OK")

    def _call(self, commit: Commit) -> scripts.Call:
        owned = commit.owned
        return owned.keys, [
            owned.contract.session,
            owned.epoch,
            owned.owner,
            commit.expected_length,
            commit.length,
            commit.digest,
            commit.round,
            commit.branch,
            CLOSED if commit.closes else OPEN,
            self._closed_ttl_ms if commit.closes else self._open_ttl_ms,
            self._feed_entries,
            *commit.messages,
        ]


async def read_log(redis: Redis, contract: Contract, after: int) -> list[bytes]:
    """Return a log's messages behind entry number ``after``, in order."""
    log = keys.session_log(contract.producer, contract.tenant, contract.session)
    with translated():
        entries = await redis.xrange(log, min=f"{after + 1}-0")
    return [fields[b"m"] for _, fields in entries]


def _place(contract: Contract) -> tuple[str, str, str]:
    return contract.producer, contract.tenant, contract.session
