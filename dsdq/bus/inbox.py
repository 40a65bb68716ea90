"""A worker's inboxes: one bounded stream per tenant, read through a consumer group, acknowledged when answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.errors import BusyError, GoneError

GROUP = "verify"
RETRY_MS = 20
DEAD_LETTERS_KEPT = 1_000
_SHOWN_BYTES = 4_096
_KNOWN_FOR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as it lies in an inbox. ``tenant`` is whose inbox it came through, not what the message claims."""

    tenant: str
    id: str
    payload: bytes


async def publish(redis: Redis, worker: str, tenant: str, payload: bytes, *, opens: bool = False) -> None:
    """Put one message into a worker's inbox; one that ``opens`` leaves a place free for every session of the worker.

    Raises:
        BusyError: the inbox is full; come back after ``retry_after_ms``.
        GoneError: the worker takes no more messages, or never existed.
        RedisUnavailableError: no answer.
    """
    with translated():
        answer = await scripts.call(
            redis,
            "publish",
            [keys.inbox(worker, tenant), keys.worker_state(worker)],
            [payload, "open" if opens else ""],
        )
    if answer[0] == b"BUSY":
        msg = f"inbox of verifier {worker}: full for tenant {tenant}"
        raise BusyError(msg, int(answer[1]))
    if answer[0] == b"GONE":
        msg = f"inbox of verifier {worker}: closed; it stopped, or never served tenant {tenant}"
        raise GoneError(msg)


class Inbox:
    """The reading side: what a worker was sent by the tenants it serves."""

    def __init__(self, redis: Redis, worker: str, tenants: Sequence[str]) -> None:
        self._redis = redis
        self._worker = worker
        self._tenants = {keys.inbox(worker, tenant): tenant for tenant in tenants}

    async def open(self, bound: int, slots: int) -> None:
        """Create the streams with their groups and let devices in.

        At most ``bound`` entries per tenant, of which ``slots`` are kept from messages that open a session.
        """
        with translated():
            for stream in self._tenants:
                try:
                    await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
                except ResponseError as error:
                    if "BUSYGROUP" not in str(error):
                        raise
            state = {"bound": bound, "slots": slots, "closed": 0, "retry_ms": RETRY_MS}
            await self._redis.hset(keys.worker_state(self._worker), mapping=state)

    async def read(self, count: int, block_ms: int) -> list[Entry]:
        """Return up to ``count`` new messages per tenant, oldest first; wait up to ``block_ms`` for the first one."""
        with translated():
            answer = await self._redis.xreadgroup(
                GROUP, self._worker, dict.fromkeys(self._tenants, ">"), count=count, block=block_ms
            )
        return [
            Entry(self._tenants[stream.decode()], entry_id.decode(), fields.get(b"m", b""))
            for stream, entries in answer or ()
            for entry_id, fields in entries
        ]

    async def settle(self, entries: Iterable[Entry]) -> None:
        """Acknowledge and delete what was answered: an acknowledged entry alone would still take memory and bound."""
        by_stream: dict[str, list[str]] = {}
        for entry in entries:
            by_stream.setdefault(keys.inbox(self._worker, entry.tenant), []).append(entry.id)
        if not by_stream:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for stream, ids in by_stream.items():
            pipeline.xack(stream, GROUP, *ids)
            pipeline.xdel(stream, *ids)
        with translated():
            await pipeline.execute()

    async def bury(self, entry: Entry, reason: str) -> None:
        """Move an entry that cannot be answered to the dead letters, cut to a bounded size."""
        fields = {
            "reason": reason[:_SHOWN_BYTES],
            "worker": self._worker,
            "tenant": entry.tenant,
            "m": entry.payload[:_SHOWN_BYTES],
        }
        with translated():
            await self._redis.xadd(keys.DEAD_LETTERS, fields, maxlen=DEAD_LETTERS_KEPT)
        await self.settle([entry])

    async def close(self) -> None:
        """Let no more messages in. The streams go; the mark that this worker is gone stays for an hour."""
        state = keys.worker_state(self._worker)
        with translated():
            await self._redis.hset(state, "closed", 1)
            await self._redis.pexpire(state, _KNOWN_FOR_MS)
            await self._redis.delete(*self._tenants)
