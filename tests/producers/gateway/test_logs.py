"""Many logs in few reads: every entry once and in order, for everybody who follows, whatever the others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from redis.asyncio import Redis

from dsdq.bus.sessions import LogEntry, Place
from dsdq.testing.servers import RealServer, client, real_cluster
from producers.gateway.logs import (
    ENTRIES_OF_A_LOG,
    LOGS_OF_A_READ,
    LONG_MS,
    READERS,
    SHORT_MS,
    SHORTEST_MS,
    Cursor,
    Free,
    Logs,
)

LIMIT_S = 60


class Reader:
    """Follows one log and keeps what it gets; with ``room`` for so many entries, until there is more again."""

    def __init__(
        self, logs: Logs, session: str, number: int = 0, epoch: int = 0, room: int = 1 << 30, tenant: str = "acme"
    ) -> None:
        self.got: list[LogEntry] = []
        self.room = room
        self.cursor = Cursor(Place(f"phone-{session}", tenant, session), number, epoch, self._take)
        self._logs = logs
        self._changed = asyncio.Event()

    def follow(self) -> Reader:
        self._logs.follow(self.cursor)
        return self

    def _take(self, _: Cursor, entries: Sequence[LogEntry]) -> bool:
        self.got += entries
        self._changed.set()
        return len(self.got) < self.room

    async def first(self, count: int) -> list[int]:
        """Wait for so many entries and return the numbers of all that came."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.got) < count:
                self._changed.clear()
                await self._changed.wait()
        return [entry.number for entry in self.got]


@pytest.fixture
async def logs(redis: Redis) -> AsyncIterator[Logs]:
    made = Logs(redis)
    yield made
    await made.aclose()


async def append(redis: Redis, reader: Reader, *numbers: int, epoch: int = 1) -> None:
    for number in numbers:
        await redis.xadd(reader.cursor.place.log, {"m": b"%d" % number, "e": epoch}, id=f"{number}-0")


async def test_what_is_there_comes_and_what_comes_later(redis: Redis, logs: Logs) -> None:
    reader, behind = Reader(logs, "a"), Reader(logs, "a", 2, 1)
    await append(redis, reader, 1, 2, 3)
    reader.follow()
    behind.follow()
    assert await reader.first(3) == [1, 2, 3]
    await append(redis, reader, 4)
    assert await reader.first(4) == [1, 2, 3, 4]
    assert await behind.first(2) == [3, 4]
    assert {(entry.epoch, entry.message) for entry in behind.got} == {(1, b"3"), (1, b"4")}


async def test_more_logs_than_all_readers_hold_at_once(redis: Redis, logs: Logs) -> None:
    readers = [Reader(logs, f"s{number}").follow() for number in range(READERS * LOGS_OF_A_READ + 50)]
    for number in (1, 2):
        for reader in readers:
            await append(redis, reader, number)
    for reader in readers:
        assert await reader.first(2) == [1, 2]
    assert logs._readers <= READERS


async def test_of_all_readers_that_wait_for_silent_logs_one_comes_back_soon_for_a_new_one(
    redis: Redis, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, read = list[int](), redis.xread

    def watched(*given: Any, block: int, **options: Any) -> Any:
        waits.append(block)
        return read(*given, block=block, **options)

    monkeypatch.setattr(redis, "xread", watched)
    for number in range(READERS):
        Reader(logs, f"silent-{number}").follow()
        while len(waits) <= number:
            await asyncio.sleep(0)
    assert waits[:READERS] == [LONG_MS] * (READERS - 1) + [SHORT_MS]
    reader = Reader(logs, "new").follow()
    await append(redis, reader, 1)
    assert await reader.first(1) == [1]


async def test_a_tenants_many_silent_logs_delay_its_own_and_not_anothers(
    logs: Logs, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, waits = list[list[str]](), list[int]()

    async def silent(ends: dict[str, str], *, block: int, **_: Any) -> None:
        reads.append(list(ends))
        waits.append(block)
        await asyncio.sleep(0)

    monkeypatch.setattr(redis, "xread", silent)
    for number in range(8 * READERS * LOGS_OF_A_READ):
        Reader(logs, f"s{number}").follow()
    other = Reader(logs, "other", tenant="globex").follow()
    while len(reads) < 20 * READERS:
        await asyncio.sleep(0)
    mine = [at for at, ends in enumerate(reads) if other.cursor.place.log in ends]
    assert max(after - before for before, after in pairwise([0, *mine, len(reads)])) <= 2 * READERS
    assert set(waits[READERS:]) == {SHORTEST_MS}


async def test_the_more_logs_wait_the_sooner_a_read_is_over(
    logs: Logs, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = list[int]()

    async def silent(_: dict[str, str], *, block: int, **__: Any) -> None:
        waits.append(block)
        await asyncio.sleep(0)

    monkeypatch.setattr(redis, "xread", silent)
    for number in range(2 * READERS * LOGS_OF_A_READ):  # half of them wait for a read
        Reader(logs, f"s{number}").follow()
    while len(waits) < 4 * READERS:
        await asyncio.sleep(0)
    assert all(SHORTEST_MS < wait < SHORT_MS for wait in waits)


def test_tenants_take_turns_and_what_is_given_back_is_next() -> None:
    free = Free()
    cursors = [Cursor(Place("p", tenant, str(at)), 0, 0, Mock()) for at, tenant in enumerate("aaabc")]
    for cursor in cursors:
        free.add(cursor)
    assert len(free) == len(cursors)
    taken = [free.pop() for _ in range(2)]
    for cursor in reversed(taken):
        assert cursor is not None
        free.give_back(cursor)
    order = [free.pop() for _ in cursors]
    assert [one.place.session for one in order if one is not None] == ["0", "3", "4", "1", "2"]
    assert free.pop() is None


async def test_a_long_log_comes_whole(redis: Redis, logs: Logs) -> None:
    reader, numbers = Reader(logs, "a"), range(1, 3 * ENTRIES_OF_A_LOG + 5)
    await append(redis, reader, *numbers)
    assert await logs.look(reader.cursor)
    assert await reader.first(ENTRIES_OF_A_LOG) == list(numbers[:ENTRIES_OF_A_LOG])
    reader.follow()
    assert await reader.first(len(numbers)) == list(numbers)


async def test_who_has_no_room_is_read_no_further_and_goes_on_where_it_was(redis: Redis, logs: Logs) -> None:
    full, other = Reader(logs, "a", room=1).follow(), Reader(logs, "b").follow()
    await append(redis, full, 1)
    assert await full.first(1) == [1]
    await append(redis, full, 2, 3)
    await append(redis, other, 1, 2)
    assert await other.first(2) == [1, 2]
    assert await full.first(1) == [1]
    full.room = 100
    full.follow()
    assert await full.first(3) == [1, 2, 3]


async def test_who_is_gone_gets_nothing(redis: Redis, logs: Logs) -> None:
    gone, other = Reader(logs, "a").follow(), Reader(logs, "b").follow()
    gone.cursor.live = False
    await append(redis, gone, 1)
    await append(redis, other, 1)
    assert await other.first(1) == [1]
    assert gone.got == []


@pytest.mark.parametrize("how", ["as it comes", "when asked"])
async def test_a_log_that_lost_its_end_and_grew_again_gives_what_is_new(redis: Redis, logs: Logs, how: str) -> None:
    reader = Reader(logs, "a", 5, 1)
    await append(redis, reader, 1, 2, 3)
    await append(redis, reader, 4, 5, 6, epoch=2)
    if how == "when asked":
        await logs.look(reader.cursor)
    else:
        reader.follow()
    assert await reader.first(3) == [4, 5, 6]
    assert (reader.cursor.number, reader.cursor.epoch) == (6, 2)


async def test_a_new_owner_of_a_whole_log_repeats_nothing(redis: Redis, logs: Logs) -> None:
    reader = Reader(logs, "a", 2, 1).follow()
    await append(redis, reader, 1, 2, 3)
    await append(redis, reader, 4, 5, epoch=2)
    assert await reader.first(3) == [3, 4, 5]


async def test_readers_live_through_a_restart(tmp_path: Path) -> None:
    async with RealServer(tmp_path) as server, client(server.url) as redis:
        logs = Logs(redis)
        reader = Reader(logs, "a").follow()
        await append(redis, reader, 1)
        assert await reader.first(1) == [1]
        await server.restart()
        await append(redis, reader, 2)
        assert await reader.first(2) == [1, 2]
        await logs.aclose()


async def test_a_defect_ends_no_reader_and_costs_no_log(
    redis: Redis, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, read = [RuntimeError("a defect"), TypeError("another")], redis.xread

    def failing(*given: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return read(*given, **options)

    monkeypatch.setattr(redis, "xread", failing)
    reader = Reader(logs, "a").follow()
    await append(redis, reader, 1)
    assert await reader.first(1) == [1]
    assert failures == []


async def test_a_log_that_cannot_be_read_keeps_none_of_the_others_from_being_read(redis: Redis, logs: Logs) -> None:
    broken, others = Reader(logs, "a"), [Reader(logs, f"s{number}") for number in range(3)]
    await redis.xadd(broken.cursor.place.log, {"m": b"without an epoch"}, id="1-0")
    for reader in others:
        await append(redis, reader, 1)
    for reader in (broken, *others):
        reader.follow()
    for reader in others:
        assert await reader.first(1) == [1]
    await redis.xdel(broken.cursor.place.log, "1-0")
    await append(redis, broken, 2)
    assert await broken.first(1) == [2]


async def test_a_cluster_is_read_producer_by_producer(tmp_path: Path) -> None:
    async with real_cluster(tmp_path) as (url, _), client(url) as redis:
        logs = Logs(redis)
        readers = [Reader(logs, f"s{number}").follow() for number in range(12)]
        for number in (1, 2):
            for reader in readers:
                await append(redis, reader, number)
        for reader in readers:
            assert await reader.first(2) == [1, 2]
        await logs.aclose()
