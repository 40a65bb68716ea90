"""Dead letters: what no worker could answer, kept whole with the reason, until a person drops it or tries it again.

The newest are kept, so many, of so many bytes, for so long; every one that there ever was is counted by its kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.errors import ConfigError, WireError
from dsdq.wire import MAX_MESSAGE_BYTES, Message, unpack

MAX_REASON_CHARACTERS = 1_024
_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
SEAL = ("p", "s", "a")
"""Fields beside a message's bytes that say who sealed it: producer, session, authentication code."""


class Kind(StrEnum):
    """Why something is a dead letter. Letters are counted by it, so that kinds must be few."""

    MALFORMED = "malformed"
    NOT_A_REQUEST = "not_a_request"
    UNKNOWN_SESSION = "unknown_session"
    WRONG_TENANT = "wrong_tenant"
    FORGED = "forged"
    FAILED = "failed"
    FLOOD = "flood"
    LATE_CANCEL = "late_cancel"


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that was not answered.

    ``entry`` is its id in the inbox of ``worker`` and ``tenant``, ``size_bytes`` what it had before it was cut to
    ``payload``, ``reason`` the sentence for people.
    """

    id: str
    worker: str
    tenant: str
    entry: str
    kind: str
    reason: str
    attempts: int
    size_bytes: int
    payload: bytes
    seal: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Say whether the payload is all that was sent."""
        return len(self.payload) >= self.size_bytes

    @property
    def message(self) -> Message | None:
        """Return what the payload says, or None where it is no message."""
        try:
            return unpack(self.payload)
        except WireError:
            return None


@dataclass(frozen=True, slots=True)
class Burial:
    """An entry of the inbox of ``worker`` and ``tenant`` that is to become a letter."""

    worker: str
    tenant: str
    entry: str
    payload: bytes
    kind: Kind
    reason: str
    attempts: int
    seal: Mapping[str, bytes]

    @property
    def fields(self) -> dict[str, scripts.Argument]:
        """Return what the letter says beside its message, without the seal."""
        return {
            "worker": self.worker,
            "tenant": self.tenant,
            "entry": self.entry,
            "kind": self.kind,
            "reason": self.reason[:MAX_REASON_CHARACTERS],
            "attempts": self.attempts,
            "size": len(self.payload),
        }


@dataclass(frozen=True, slots=True)
class Kept:
    """How many letters are kept, how many bytes of messages in them, and for how long."""

    letters: int = 20_000
    bytes_: int = 64 << 20
    age_ms: int = 7 * 24 * 3_600_000


class DeadLetters:
    """The stream of dead letters; ``kept`` bounds it."""

    def __init__(self, redis: Redis, kept: Kept | None = None) -> None:
        self._redis = redis
        self._kept = kept or Kept()

    async def add(
        self,
        worker: str,
        tenant: str,
        entry_id: str,
        payload: bytes,
        kind: Kind,
        reason: str,
        attempts: int = 1,
        seal: Mapping[str, bytes] | None = None,
    ) -> bool:
        """Keep what came through an inbox; say whether it is new here.

        Acknowledge the entry afterwards: who crashes in between may add it again, and there will be one letter.
        """
        (new,) = await self.add_all([Burial(worker, tenant, entry_id, payload, kind, reason, attempts, seal or {})])
        return new

    async def add_all(self, burials: Sequence[Burial]) -> list[bool]:
        """Do as :meth:`add` for several, in one round trip."""
        where = [keys.DEAD_LETTERS, keys.DEAD_COUNTS, keys.DEAD_SEEN, keys.DEAD_BYTES]
        kept: list[scripts.Argument] = [self._kept.letters, self._kept.bytes_, self._kept.age_ms]
        calls: list[scripts.Call] = []
        for one in burials:
            fields = {**one.fields, **one.seal}
            flat = [part for pair in fields.items() for part in pair]
            message = one.payload[:MAX_MESSAGE_BYTES]
            calls.append((where, [f"{one.worker}/{one.tenant}/{one.entry}", one.kind, *kept, message, *flat]))
        with translated():
            added = await scripts.call_many(self._redis, "dead", calls)
        return [one is not None for one in added]

    async def count(self, kind: Kind, letters: int) -> None:
        """Count what is not kept: there was too much of it, or nobody has to see it."""
        if letters:
            with translated():
                await self._redis.hincrby(keys.DEAD_COUNTS, kind, letters)

    async def counts(self) -> dict[str, int]:
        """Return how many letters of each kind there ever were, trimmed and dropped ones among them."""
        with translated():
            counted = await self._redis.hgetall(keys.DEAD_COUNTS)
        return {kind.decode(errors="replace"): int(count) for kind, count in counted.items()}

    async def list(self, count: int, after: str = "") -> Sequence[Letter]:
        """Return up to ``count`` letters, newest first; those behind letter ``after``, when it is given.

        Raises:
            ConfigError: ``after`` is no letter's id.
        """
        last = f"({_checked(after)}" if after else "+"
        with translated():
            found = await self._redis.xrevrange(keys.DEAD_LETTERS, max=last, count=count)
        return [_read(letter_id, fields) for letter_id, fields in found]

    async def show(self, letter_id: str) -> Letter:
        """Return one letter.

        Raises:
            ConfigError: there is none of that id.
        """
        _checked(letter_id)
        with translated():
            found = await self._redis.xrange(keys.DEAD_LETTERS, min=letter_id, max=letter_id, count=1)
        if not found:
            raise _no_letter(letter_id)
        return _read(*found[0])

    async def drop(self, letter_id: str) -> None:
        """Forget one letter.

        Raises:
            ConfigError: there is none of that id.
        """
        _checked(letter_id)
        with translated():
            dropped = await scripts.call(self._redis, "drop", [keys.DEAD_LETTERS, keys.DEAD_BYTES], [letter_id])
        if not dropped:
            raise _no_letter(letter_id)

    async def drop_all(self) -> int:
        """Forget all letters and return how many they were; their counts stay."""
        pipeline = self._redis.pipeline(transaction=False)  # a cluster's client has none
        pipeline.xlen(keys.DEAD_LETTERS)
        pipeline.delete(keys.DEAD_LETTERS, keys.DEAD_BYTES)
        with translated():
            dropped, _ = await pipeline.execute()
        return int(dropped)


def _read(letter_id: bytes, fields: Mapping[bytes, bytes]) -> Letter:
    """Return a letter, whatever somebody wrote into the stream."""

    def _text(name: str) -> str:
        return fields.get(name.encode(), b"").decode(errors="replace")

    def _number(name: str) -> int:
        digits = fields.get(name.encode(), b"")
        return int(digits) if digits.isdigit() else 0

    return Letter(
        id=letter_id.decode(),
        worker=_text("worker"),
        tenant=_text("tenant"),
        entry=_text("entry"),
        kind=_text("kind"),
        reason=_text("reason"),
        attempts=_number("attempts"),
        size_bytes=_number("size"),
        payload=fields.get(b"m", b""),
        seal={name: fields[name.encode()] for name in SEAL if name.encode() in fields},
    )


def _checked(letter_id: str) -> str:
    if not _ID.fullmatch(letter_id):
        msg = f"expected a letter's id such as 1700000000000-0, got {letter_id!r}; `dsdq dead list` shows them"
        raise ConfigError(msg)
    return letter_id


def _no_letter(letter_id: str) -> ConfigError:
    return ConfigError(f"expected the id of a dead letter, got {letter_id}: it was dropped, retried or trimmed")
