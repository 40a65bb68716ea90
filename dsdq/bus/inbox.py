"""A worker's inboxes: one bounded stream per tenant, read through a consumer group, settled when answered.

Devices fill them (:mod:`dsdq.bus.publishing`).

An entry lies there until its answer is in a log: what is in an inbox is the work outstanding, and whoever inherits the
worker finds all of it, read or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.bus.dead import SEAL, Burial, DeadLetters, Kind
from dsdq.errors import FencedError, GoneError, RedisUnavailableError
from dsdq.telemetry.logs import get_logger

log = get_logger("inbox")

GROUP = "verify"
_PAGE = 256
SLACK = 2  # an inbox that holds more than so many times its bound was not filled by `publish`
CUT_ENTRIES = 1_000  # what one call may delete: the server does nothing else meanwhile
CUTS_PER_BEAT = 50  # no flood may keep a heartbeat from being the next one
FLOOD_LETTERS = 8  # of each call, kept for people to see what it was


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as it lies in an inbox of ``worker``: ``tenant`` is whose inbox, not what the message claims.

    ``tries`` is how many of a dead worker's heirs died in a step with it; one that ``passed`` has been in a step since.
    """

    worker: str
    tenant: str
    id: str
    fields: Mapping[bytes, bytes]
    tries: int = 0
    passed: bool = False

    @property
    def payload(self) -> bytes:
        """Return the message's bytes."""
        return self.fields.get(b"m", b"")

    @property
    def producer(self) -> str:
        """Return who says to have sent it."""
        return self.fields.get(b"p", b"").decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How full the inbox of one tenant may get: in entries, of which ``kept`` are no ``open``'s, and in bytes."""

    entries: int
    kept: int
    bytes_: int


class Inbox:
    """The reading side: what a worker was sent by the tenants it serves."""

    def __init__(self, redis: Redis, worker: str, tenants: Sequence[str], dead: DeadLetters) -> None:
        self._redis = redis
        self._dead = dead
        self._worker = worker
        # By stream. It is never changed, but another may take its place.
        self._tenants: Mapping[str, str] = {keys.inbox(worker, tenant): tenant for tenant in tenants}
        self._held: set[tuple[str, str]] = set()  # tenant and id of what was read and is not settled
        self._unsure = False
        self._bound = 0
        self._condemned: list[tuple[Entry, Burial]] = []
        self._refusals: Mapping[str, int] = {}

    @property
    def tenants(self) -> Iterable[str]:
        """Return whose inboxes these are."""
        return self._tenants.values()

    async def open(self, bounds: Bounds) -> None:
        """Create the streams with their groups and let devices in."""
        self._bound = bounds.entries
        with translated():
            for stream in self._tenants:
                await self._create(stream)
            state = {
                "bound": bounds.entries,
                "kept": bounds.kept,
                "bytes": bounds.bytes_,
                "drained_per_s": 1,
                "closed": 0,
                "tenants": ",".join(self._tenants.values()),
            }
            await self._redis.hset(keys.worker_state(self._worker), mapping=state)

    async def serve(self, tenants: Iterable[str]) -> None:
        """Let these tenants' devices in too, if they are not yet."""
        streams = {keys.inbox(self._worker, tenant): tenant for tenant in tenants}
        if streams.keys() <= self._tenants.keys():
            return
        served = {**self._tenants, **streams}
        with translated():
            for stream in served:
                await self._create(stream)
            await self._redis.hset(keys.worker_state(self._worker), "tenants", ",".join(served.values()))
        self._tenants = served

    async def read(self, count: int, block_ms: int) -> list[Entry]:
        """Return up to ``count`` new messages per tenant, oldest first; wait up to ``block_ms`` for the first one.

        After an error the next call returns what the answer to the failed one held, if it was lost on its way.

        Raises:
            FencedError: another worker has closed the inboxes.
        """
        if not self._tenants:
            await asyncio.sleep(block_ms / 1000)
            return []
        if self._unsure:
            found = await self._stranded()
            self._unsure = False
        else:
            found = await self._ask(dict.fromkeys(self._tenants, ">"), count, block_ms)
        self._held.update((entry.tenant, entry.id) for entry in found)
        return found

    async def _stranded(self) -> list[Entry]:
        """Return what an answer held that was lost: entries that are pending here and were never seen."""
        lost, held = [], set(self._held)  # as it is now: what is settled meanwhile was not lost
        for stream in self._tenants:
            last = "0"
            while entries := await self._ask({stream: last}, _PAGE, None):
                last = entries[-1].id
                lost += [one for one in entries if one.fields and (one.tenant, one.id) not in held]
        return lost

    async def _ask(self, streams: Mapping[str, str], count: int, block_ms: int | None) -> list[Entry]:
        try:
            with translated():
                answer = await self._redis.xreadgroup(GROUP, self._worker, streams, count=count, block=block_ms)
        except GoneError:
            with translated():
                await self._restore()
            return []
        except RedisUnavailableError:  # the client does not repeat it: the server may have given entries to nobody
            self._unsure = True
            raise
        return [
            Entry(self._worker, self._tenants[stream.decode()], entry_id.decode(), fields or {})
            for stream, entries in answer or ()
            for entry_id, fields in entries
        ]

    async def settle(self, entries: Iterable[Entry]) -> None:
        """Acknowledge and delete what was answered, in this worker's inboxes or those of one that it inherits."""
        by_inbox: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            by_inbox.setdefault((entry.worker, entry.tenant), []).append(entry)
        calls: list[scripts.Call] = []
        for place, settled in by_inbox.items():
            arguments: list[scripts.Argument] = [GROUP]
            for entry in settled:
                arguments += [entry.id, len(entry.payload)]
            calls.append(([keys.inbox(*place), keys.inbox_bytes(*place)], arguments))
        if calls:
            with translated():
                await scripts.call_many(self._redis, "settle", calls)
        for settled in by_inbox.values():
            self._held.difference_update((entry.tenant, entry.id) for entry in settled if entry.worker == self._worker)

    async def dismiss(self, entry: Entry, kind: Kind) -> None:
        """Settle an entry that needs neither an answer nor people; it is counted among the dead letters of its kind."""
        await self._dead.count(kind, 1)
        await self.settle([entry])

    async def bury(self, entry: Entry, kind: Kind, reason: str, attempts: int = 1) -> None:
        """Move an entry that cannot be answered to the dead letters."""
        self.condemn(entry, kind, reason, attempts)
        await self.bury_condemned()

    async def keep(self, tenant: str, session: str, payload: bytes, reason: str, attempts: int) -> None:
        """Put an ``open`` that was answered before among the dead letters, under its session's name."""
        await self._dead.add(self._worker, tenant, session, payload, Kind.FAILED, reason, attempts)

    def condemn(self, entry: Entry, kind: Kind, reason: str, attempts: int = 1) -> None:
        """Let an entry be buried with others, by the next :meth:`bury_condemned`; until then it lies in its inbox."""
        self._condemned.append((entry, _burial(entry, kind, reason, attempts)))

    async def bury_condemned(self) -> None:
        """Move what was condemned to the dead letters; it is still condemned if Redis does not answer."""
        if condemned := list(self._condemned):
            await self._dead.add_all([burial for _, burial in condemned])
            await self.settle([entry for entry, _ in condemned])
            self._condemned = [one for one in self._condemned if one not in condemned]

    async def cut(self) -> int:
        """Refuse what devices put past twice the bounds, the newest that nobody has read; return how much it was.

        All of it is counted as dead letters, and a few are kept. Who dies before it has counted leaves some uncounted.
        An honest device's message may be among them: it has no answer, and the device repeats it.
        """
        total = 0
        for _ in range(CUTS_PER_BEAT):
            cut = await self._cut_once()
            total += sum(cut)
            if max(cut, default=0) < CUT_ENTRIES:
                break
        return total

    async def _cut_once(self) -> list[int]:
        arguments: list[scripts.Argument] = [GROUP, SLACK * self._bound, CUT_ENTRIES, FLOOD_LETTERS]
        tenants = self._tenants
        calls: list[scripts.Call] = [([stream, f"{stream}:bytes"], arguments) for stream in tenants]
        with translated():
            answers = await scripts.call_many(self._redis, "cut", calls)
        reason = f"the inbox held more than {SLACK} times its bound of {self._bound} entries"
        for tenant, (cut, *sample) in zip(tenants.values(), answers, strict=True):
            entries = [_entry(self._worker, tenant, *one) for one in sample]
            await self._dead.add_all([_burial(entry, Kind.FLOOD, reason) for entry in entries])
            await self._dead.count(Kind.FLOOD, cut - len(sample))
        return [cut for cut, *_ in answers]

    async def begin(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Count that a step begins with these entries; return those that were counted: a dead worker's, the first time.

        Should this worker die in that step too, its heir knows.
        """
        begun = [one for one in entries if one.worker != self._worker and not one.passed]
        await count_tries(self._redis, begun)
        return begun

    async def passed(self, entries: Sequence[Entry]) -> None:
        """Take back what :meth:`begin` counted: the step went well."""
        if entries:
            pipeline = self._redis.pipeline(transaction=False)
            for entry in entries:
                pipeline.hdel(keys.worker_tries(entry.worker), f"{entry.tenant}/{entry.id}")
            with translated():
                await pipeline.execute()

    async def refuse_opens(self, refusals: Mapping[str, int]) -> None:
        """Let ``publish`` answer these tenants' opens with BUSY and so many milliseconds, and take in all others'."""
        changed = refusals.keys() != self._refusals.keys()
        self._refusals = refusals
        if changed:
            with translated():
                await self._redis.hset(keys.worker_state(self._worker), mapping=self._refused())

    def _refused(self) -> dict[str, int]:
        return {f"busy:{tenant}": self._refusals.get(tenant, 0) for tenant in self.tenants}

    async def beat(self, drained_per_s: float, ttl_ms: int) -> None:
        """Say how fast entries are answered and whose opens are refused; cut floods back.

        Should nobody beat again, the inboxes are kept for ``ttl_ms``. A server that was restarted has lost the script
        by which devices publish, and they may not bring it.
        """
        names = [*self._tenants, *(f"{stream}:bytes" for stream in self._tenants)]
        state = keys.worker_state(self._worker)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hset(state, mapping={"drained_per_s": max(1, round(drained_per_s)), **self._refused()})
        for key in (state, *names, keys.worker_sessions(self._worker), keys.worker_tries(self._worker)):
            pipeline.pexpire(key, ttl_ms)
        with translated():
            await pipeline.execute()
        await scripts.load(self._redis, "publish")
        if cut := await self.cut():
            log.warning("flooded", entries=cut)

    async def close(self) -> None:
        """Let no more messages in; what is in stays."""
        await close_inboxes(self._redis, self._worker)

    async def holds_any(self) -> bool:
        """Say whether anything lies in the inboxes."""
        return await holds_any(self._redis, self._worker, self._tenants.values())

    async def forget(self) -> None:
        """Remove the inboxes."""
        await forget_inboxes(self._redis, self._worker, self._tenants.values())

    async def _restore(self) -> None:
        """Make streams again that somebody deleted; the groups begin at 0, so that nothing is skipped."""
        closed = await self._redis.hget(keys.worker_state(self._worker), "closed")
        if closed != b"0":
            msg = f"inbox of verifier {self._worker}: expected it to be open, it was closed by another worker"
            raise FencedError(msg)
        for stream in self._tenants:
            await self._create(stream)

    async def _create(self, stream: str) -> None:
        try:
            await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def _burial(entry: Entry, kind: Kind, reason: str, attempts: int = 1) -> Burial:
    seal = {name: value for name in SEAL if (value := entry.fields.get(name.encode())) is not None}
    return Burial(entry.worker, entry.tenant, entry.id, entry.payload, kind, reason, attempts, seal)


def _entry(worker: str, tenant: str, entry_id: bytes, flat: Sequence[bytes]) -> Entry:
    """Return an entry of which a script gave id and fields, name and value in turn."""
    return Entry(worker, tenant, entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))


async def close_inboxes(redis: Redis, worker: str) -> list[str]:
    """Let no more messages into a worker's inboxes, and return the tenants that have one."""
    tenants = await inbox_tenants(redis, worker)
    if tenants:
        with translated():
            await redis.hset(keys.worker_state(worker), "closed", 1)
    return tenants


async def inbox_tenants(redis: Redis, worker: str) -> list[str]:
    """Return the tenants for whom a worker has inboxes."""
    with translated():
        tenants = await redis.hget(keys.worker_state(worker), "tenants")
    return [tenant for tenant in (tenants or b"").decode().split(",") if tenant]


async def left_behind(redis: Redis, worker: str, tenants: Iterable[str]) -> AsyncIterator[list[Entry]]:
    """Give all that lies in the inboxes of a worker that is gone, page by page: a flood may have gone before.

    Delivered or not, oldest first for each tenant.
    """
    for tenant in tenants:
        last = "-"
        while True:
            with translated():
                found = await redis.xrange(keys.inbox(worker, tenant), min=last, count=_PAGE)
            if not found:
                break
            yield [Entry(worker, tenant, entry_id.decode(), fields) for entry_id, fields in found]
            last = f"({found[-1][0].decode()}"


async def holds_any(redis: Redis, worker: str, tenants: Iterable[str]) -> bool:
    """Say whether anything lies in a worker's inboxes."""
    with translated():
        return any([await redis.xlen(keys.inbox(worker, tenant)) for tenant in tenants])


async def count_tries(redis: Redis, entries: Sequence[Entry]) -> None:
    """Count that a step begins with each of these entries of dead workers."""
    pipeline = redis.pipeline(transaction=False)
    for entry in entries:
        pipeline.hincrby(keys.worker_tries(entry.worker), f"{entry.tenant}/{entry.id}", 1)
    if entries:
        with translated():
            await pipeline.execute()


async def with_tries(redis: Redis, worker: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return a dead worker's entries with the steps that others have begun with them."""
    if not entries:
        return []
    with translated():
        counts = await redis.hmget(keys.worker_tries(worker), [f"{entry.tenant}/{entry.id}" for entry in entries])
    return [replace(entry, tries=int(count or 0)) for entry, count in zip(entries, counts, strict=True)]


async def forget_inboxes(redis: Redis, worker: str, tenants: Iterable[str]) -> None:
    """Remove all keys of a worker whose inboxes are empty; a device that still asks for it is told that it is gone."""
    names = [key for tenant in tenants for key in (keys.inbox(worker, tenant), keys.inbox_bytes(worker, tenant))]
    of_worker = (keys.worker_state, keys.worker_sessions, keys.worker_tries, keys.worker_figures)
    others = [make(worker) for make in of_worker]
    with translated():
        await redis.delete(*names, *others)
