"""Sessions' logs, read for all devices of a gateway: many logs in each blocked read, few reads.

A reader takes what logs are free, up to so many, and waits for the next entry of any of them; then it takes what is
free by then. So a log that is followed anew waits for a reader that comes back, or gets one of its own as long as there
are fewer than there may be: the last of those never waits for long. Tenants take turns, so that one with many
logs delays its own; and the more logs wait, the less any reader waits. The position in a log is its entry's number, so
nothing is lost between two reads, and a device that takes nothing is simply not read for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from dsdq.bus.clients import ClusterClient
from dsdq.bus.connection import translated
from dsdq.bus.sessions import LogEntry, Place, log_entry, read_news
from dsdq.errors import BusError
from dsdq.tasks import end_all_of, start_for
from dsdq.telemetry.logs import get_logger

log = get_logger("logs")

READERS, CLUSTER_READERS = 16, 256  # each has a connection; a read of a cluster is of one producer's logs
LOGS_OF_A_READ = 32
ENTRIES_OF_A_LOG = 16  # so much more than it has room for may come to somebody at once, for each log
LONG_MS, SHORT_MS, SHORTEST_MS = 1_000, 50, 10
RETRY_S = 0.2


@dataclass(eq=False, slots=True)
class Cursor:
    """One reader's place in a log: ``number`` and ``epoch`` are those of the last entry that was taken.

    ``take`` is given what comes, and says whether it has room for more; if not, whoever it is has the log followed
    again. One that is not ``live`` gets nothing any more. ``owner`` is the worker that owned the session of late.
    """

    place: Place
    number: int
    epoch: int
    take: Callable[[Cursor, Sequence[LogEntry]], bool]
    live: bool = True
    owner: str = ""

    def hand(self, entries: Sequence[LogEntry]) -> bool:
        """Give entries to whoever reads here; say whether there is room for more."""
        if not self.live:
            return False
        if entries:
            self.number, self.epoch = entries[-1].number, entries[-1].epoch
        return self.take(self, entries)


class Free:
    """Cursors that no reader has. First come first served within a tenant, one tenant after the other."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Cursor]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(map(len, self._queues.values()))

    def add(self, cursor: Cursor) -> None:
        """Take one in, behind its tenant's others."""
        self._queues.setdefault(cursor.place.tenant, deque()).append(cursor)

    def pop(self) -> Cursor | None:
        """Return whose turn it is; its tenant's next comes after those of all others."""
        if not self._queues:
            return None
        tenant, queue = self._queues.popitem(last=False)
        cursor = queue.popleft()
        if queue:
            self._queues[tenant] = queue
        return cursor

    def give_back(self, cursor: Cursor) -> None:
        """Let it be this one's turn again."""
        tenant = cursor.place.tenant
        self._queues.setdefault(tenant, deque()).appendleft(cursor)
        self._queues.move_to_end(tenant, last=False)


class Logs:
    """Follows logs for any number of cursors."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._is_cluster = isinstance(redis, ClusterClient)
        self._most = CLUSTER_READERS if self._is_cluster else READERS
        self._readers = 0
        self._free = Free()

    def follow(self, cursor: Cursor) -> None:
        """Give a cursor what its log has behind it, now and from now on."""
        self._free.add(cursor)
        if self._readers < self._most:
            self._readers += 1
            start_for(self, self._read())

    async def look(self, cursor: Cursor) -> bool:
        """Give a cursor what is there now, or the first of it; say whether there is room for more: then follow.

        Raises:
            GoneError: there is no log any more.
        """
        return cursor.hand(await self._news(cursor))

    async def aclose(self) -> None:
        """Read no more."""
        await end_all_of(self)

    async def _read(self) -> None:
        try:
            while batch := self._take():
                try:
                    await self._once(batch)
                except BusError as error:
                    log.warning("logs unread", reason=str(error))
                    await asyncio.sleep(RETRY_S)
                except Exception:  # a defect; no other log may wait for ever because of it
                    log.exception("logs unread")
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(0)  # whoever was given something goes first
        finally:
            self._readers -= 1

    def _take(self) -> dict[str, Cursor]:
        """Return free cursors by their logs, each log once; those that are read together, in a cluster."""
        batch, passed = dict[str, Cursor](), list[Cursor]()
        producer = ""
        while len(batch) < LOGS_OF_A_READ and (cursor := self._free.pop()) is not None:
            if not cursor.live:
                continue
            producer = producer or cursor.place.producer
            if cursor.place.log in batch or (self._is_cluster and cursor.place.producer != producer):
                passed.append(cursor)
            else:
                batch[cursor.place.log] = cursor
        for cursor in reversed(passed):
            self._free.give_back(cursor)
        return batch

    async def _once(self, batch: dict[str, Cursor]) -> None:
        """Wait for entries of these logs, and hand them out; those that none came of are free again in any case."""
        block_ms = self._block_ms()
        try:
            with translated():
                ends = {key: f"{cursor.number}-0" for key, cursor in batch.items()}
                answer = await self._redis.xread(ends, count=ENTRIES_OF_A_LOG, block=block_ms)
            for key, found in answer or ():
                await self._hand_out(batch.pop(key.decode()), found)
        finally:
            for cursor in batch.values():
                self._free.add(cursor)

    def _block_ms(self) -> int:
        """Return how long a read may wait: the sooner it is over the more logs wait for one, within reason."""
        waiting, held = len(self._free), self._most * LOGS_OF_A_READ
        if not waiting and self._readers < self._most:
            return LONG_MS
        return max(SHORTEST_MS, SHORT_MS * held // (held + waiting))

    async def _hand_out(self, cursor: Cursor, found: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
        try:
            entries = [log_entry(entry_id, fields) for entry_id, fields in found]
            if 0 < cursor.epoch < entries[0].epoch:  # the log may have lost its end, and have grown again since
                with contextlib.suppress(BusError):  # whoever misses something asks for it
                    entries = await self._news(cursor)
            has_room = cursor.hand(entries)
        except Exception:  # of one log: the others' entries are not to wait for it
            log.exception("log unread", session=cursor.place.session)
            start_for(self, self._follow_later(cursor))
        else:
            if has_room:
                self._free.add(cursor)

    async def _follow_later(self, cursor: Cursor) -> None:
        await asyncio.sleep(RETRY_S)
        self.follow(cursor)

    async def _news(self, cursor: Cursor) -> list[LogEntry]:
        return await read_news(self._redis, cursor.place, cursor.number, cursor.epoch, ENTRIES_OF_A_LOG)
