"""Where batches lie: what is known of each, its lines to do, who does which until when, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from redis.asyncio import Redis

from dsdq import keys
from dsdq.batches import Batch, Status, check_metadata, fresh_batch_id, fresh_file_id, window_ms
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.errors import BusyError, ConfigError

MOST_ACTIVE = 16  # batches of one tenant: so many times its largest file may lie in Redis once more
BUSY_MS = 60_000
LONGEST_MS = 2 * 86_400_000  # that any batch may take
_PARTS = ("todo", "lines", "results", "errors", "tries", "chore")
OPEN = (Status.VALIDATING, Status.IN_PROGRESS)
Kind = Literal["good", "bad"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One line that is leased: ``work`` is what is to be done, ``tries`` how many leases of it have lapsed."""

    tenant: str
    batch: str
    endpoint: str
    line: int
    tries: int
    work: bytes

    @property
    def member(self) -> str:
        """Return its name among a tenant's leases."""
        return f"{self.batch}/{self.line}"


@dataclass(frozen=True, slots=True)
class Seen:
    """An active batch: how many of its lines are being done, and whether its window is over."""

    id: str
    status: Status
    running: int
    over: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """What there is to do for a tenant: lines that wait, lines that are being done, and its active batches."""

    tenant: str
    waiting: int
    running: int
    batches: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of a line: an entry of the output file, or of the error file, and what it cost in tokens."""

    completed: bool
    text: bytes
    costs: Mapping[str, int] = field(default_factory=dict)


class BatchStore:
    """The batches of all tenants; none sees another's. ``ttl_ms``: how long one is kept that has ended."""

    def __init__(self, redis: Redis, ttl_ms: int) -> None:
        self._redis = redis
        self._ttl_ms = ttl_ms

    # What a tenant asks for

    async def create(
        self,
        tenant: str,
        *,
        input_file_id: str,
        endpoint: str,
        completion_window: str = "24h",
        metadata: Mapping[str, str] | None = None,
    ) -> Batch:
        """Begin a batch. Workers find it by themselves.

        Raises:
            ConfigError: the tenant has no such file, or the window or the metadata is not what was expected.
            BusyError: it has too many batches that have not ended.
        """
        check_metadata(metadata)
        length_ms, batch_id = window_ms(completion_window), fresh_batch_id()
        fields = {
            "endpoint": endpoint,
            "input_file_id": input_file_id,
            "completion_window": completion_window,
            "output_id": fresh_file_id(),
            "error_id": fresh_file_id(),
            "metadata": json.dumps(metadata),
        }
        place = keys.batch(tenant, batch_id)
        places = [keys.batches(tenant), keys.active_batches(tenant), place, keys.file(tenant, input_file_id)]
        with translated():
            # First: what nobody looks for would never be done.
            await self._redis.sadd(keys.BATCH_TENANTS, tenant)
            answer = await scripts.call(
                self._redis, "batch_add", places, [batch_id, MOST_ACTIVE, length_ms, *_flat(fields)]
            )
        if answer == b"NOFILE":
            raise ConfigError(f"input_file_id: expected a file of tenant {tenant}, got {input_file_id!r}")
        if answer == b"FULL":
            raise BusyError(f"tenant {tenant}: expected at most {MOST_ACTIVE} batches that have not ended", BUSY_MS)
        return await self.get(tenant, batch_id)

    async def get(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch.

        Raises:
            ConfigError: the tenant has none of that id.
        """
        return Batch.read(batch_id, await self.fields(tenant, batch_id))

    async def newest(self, tenant: str, *, after: str | None = None, limit: int = 20) -> list[Batch]:
        """Return a tenant's batches, the newest first, those behind ``after`` where that is given."""
        with translated():
            ids = [one.decode() for one in await self._redis.zrevrange(keys.batches(tenant), 0, -1)]
            if after is not None:
                ids = ids[ids.index(after) + 1 :] if after in ids else []
            pipeline = self._redis.pipeline(transaction=False)
            for one in ids[:limit]:
                pipeline.hgetall(keys.batch(tenant, one))
            found = await pipeline.execute() if ids else []
        return [Batch.read(one, fields) for one, fields in zip(ids, found, strict=False) if fields]

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Let a batch end early: what runs is stopped, what is finished is kept. One that has ended stays as it is.

        Raises:
            ConfigError: the tenant has none of that id.
        """
        await self.move(tenant, batch_id, Status.CANCELLING, OPEN, {"outcome": Status.CANCELLED})
        return await self.get(tenant, batch_id)

    # What workers do with it

    async def tenants(self) -> list[str]:
        """Return every tenant that ever had a batch."""
        with translated():
            return sorted(one.decode() for one in await self._redis.smembers(keys.BATCH_TENANTS))

    async def look(self, tenants: Sequence[str]) -> list[Outlook]:
        """Return what there is to do for each of ``tenants``."""
        calls: list[scripts.Call] = [([keys.active_batches(one), keys.line_leases(one)], []) for one in tenants]
        with translated():
            answers = await scripts.call_many(self._redis, "batch_look", calls) if calls else []
        return [_outlook(tenant, answer) for tenant, answer in zip(tenants, answers, strict=True)]

    async def claim(self, tenant: str, token: str, count: int, lease_ms: int) -> list[Claim]:
        """Lease up to ``count`` lines of a tenant, those of its oldest batch first."""
        places = [keys.active_batches(tenant), keys.line_leases(tenant), keys.line_owners(tenant)]
        with translated():
            found = await scripts.call(self._redis, "batch_claim", places, [token, count, lease_ms])
        lines = [found[place : place + 5] for place in range(0, len(found), 5)]
        return [
            Claim(tenant, one.decode(), endpoint.decode(), int(line), int(tries), work)
            for one, endpoint, line, tries, work in lines
        ]

    async def renew(self, token: str, members: Mapping[str, Sequence[str]], lease_ms: int) -> set[tuple[str, str]]:
        """Renew the leases of lines, by tenant; return those (tenant and line) that are not to be done any more."""
        named = [(tenant, ones) for tenant, ones in members.items() if ones]
        calls: list[scripts.Call] = [(_leases(tenant), [token, "renew", lease_ms, *ones]) for tenant, ones in named]
        with translated():
            answers = await scripts.call_many(self._redis, "batch_lease", calls) if calls else []
        return {(tenant, one.decode()) for (tenant, _), answer in zip(named, answers, strict=True) for one in answer}

    async def release(self, tenant: str, token: str, members: Sequence[str]) -> None:
        """Give lines back, for others to do."""
        with translated():
            await scripts.call(self._redis, "batch_lease", _leases(tenant), [token, "release", 0, *members])

    async def finish(self, claim: Claim, entry: Entry) -> bool:
        """Write what became of a line, and say whether that counts: only the first does."""
        parts = [self._part(claim.tenant, claim.batch, part) for part in ("todo", "lines", "results", "errors")]
        places = [keys.batch(claim.tenant, claim.batch), *parts, *_leases(claim.tenant)]
        outcome = "completed" if entry.completed else "failed"
        arguments = [claim.batch, claim.line, outcome, entry.text, *_flat(entry.costs)]
        with translated():
            return bool(await scripts.call(self._redis, "batch_finish", places, arguments))

    async def add_lines(self, tenant: str, batch_id: str, lines: Sequence[tuple[int, Kind, bytes]]) -> bool:
        """Add lines while a batch is being prepared, in order; False when it is not any more. Again changes nothing."""
        parts = [self._part(tenant, batch_id, part) for part in ("todo", "lines", "errors")]
        arguments = [value for line in lines for value in line]
        with translated():
            return bool(
                await scripts.call(self._redis, "batch_lines", [keys.batch(tenant, batch_id), *parts], arguments)
            )

    async def move(
        self, tenant: str, batch_id: str, to: Status, allowed: Sequence[Status], fields: Mapping[str, Any] | None = None
    ) -> bool:
        """Move a batch from one of the statuses ``allowed`` to another, and say whether it was in one of them."""
        parts = [self._part(tenant, batch_id, part) for part in _PARTS]
        places = [keys.batch(tenant, batch_id), keys.active_batches(tenant), *parts]
        arguments = [batch_id, to, f",{','.join(allowed)},", self._ttl_ms, *_flat(fields or {})]
        with translated():
            return bool(await scripts.call(self._redis, "batch_move", places, arguments))

    async def freeze(self, tenant: str, batch_id: str) -> bool:
        """Let no more results of a batch count that is over; False when it is not, or has ended."""
        over = [Status.FINALIZING, Status.CANCELLING]
        for status in over:
            if await self.move(tenant, batch_id, status, [status], {"frozen": 1}):
                return True
        return False

    async def entries(
        self, tenant: str, batch_id: str, part: Literal["results", "errors", "lines"], lines: Sequence[int]
    ) -> list[bytes | None]:
        """Return what lies there of each of ``lines``."""
        with translated():
            found: list[bytes | None] = await self._redis.hmget(self._part(tenant, batch_id, part), lines)
        return found

    async def fields(self, tenant: str, batch_id: str) -> dict[bytes, bytes]:
        """Return the hash of a batch.

        Raises:
            ConfigError: the tenant has none of that id.
        """
        with translated():
            found: dict[bytes, bytes] = await self._redis.hgetall(keys.batch(tenant, batch_id))
        if not found:
            raise ConfigError(f"expected the id of a batch, got {batch_id!r}, which tenant {tenant} does not have")
        return found

    async def hold(self, tenant: str, batch_id: str, token: str, lease_ms: int) -> bool:
        """Lease the care of a whole batch, or renew it; False when another has it."""
        place = self._part(tenant, batch_id, "chore")
        with translated():
            if await self._redis.set(place, token, nx=True, px=lease_ms):
                return True
            if await self._redis.get(place) != token.encode():
                return False
            await self._redis.pexpire(place, lease_ms)
        return True

    async def let_go(self, tenant: str, batch_id: str, token: str) -> None:
        """Give the care of a batch back. Should another have it meanwhile after all, both come to the same."""
        place = self._part(tenant, batch_id, "chore")
        with translated():
            if await self._redis.get(place) == token.encode():
                await self._redis.delete(place)

    async def forget(self, tenant: str) -> None:
        """Take batches off the list that have gone since."""
        with translated():
            oldest_ms = int((await self._redis.time())[0]) * 1000 - self._ttl_ms - LONGEST_MS
            await self._redis.zremrangebyscore(keys.batches(tenant), "-inf", oldest_ms)

    def _part(self, tenant: str, batch_id: str, part: str) -> str:
        return f"{keys.batch(tenant, batch_id)}:{part}"


def _leases(tenant: str) -> list[str]:
    return [keys.line_leases(tenant), keys.line_owners(tenant)]


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [value for pair in fields.items() for value in pair]


def _outlook(tenant: str, answer: Sequence[Any]) -> Outlook:
    waiting, running, *rest = answer
    batches = [rest[place : place + 4] for place in range(0, len(rest), 4)]
    return Outlook(
        tenant,
        int(waiting),
        int(running),
        # A batch whose hash Redis lost is nobody's care.
        tuple(
            Seen(one.decode(), Status(status.decode()), int(n), bool(over))
            for one, status, n, over in batches
            if status
        ),
    )


def _seen(batch_id: bytes, status: bytes, running: int, over: int) -> Seen:
    return Seen(batch_id.decode(), Status(status.decode()), running, bool(over))
