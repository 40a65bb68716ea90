"""A primary that Sentinels watch: found, and followed when another takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dsdq.bus.connection import check_server
from dsdq.bus.sessions import Commit, CommitStatus, Owned, SessionStore, read_log
from dsdq.contract import Contract
from dsdq.errors import RedisUnavailableError
from dsdq.testing.servers import RealSentinels, client, real_sentinels, until

CONTRACT = Contract("acme", "phone-1", "s1", "m", "f")


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[RealSentinels]:
    async with real_sentinels(tmp_path, sentinels=3) as started:
        await started.replicated()
        yield started


class Writer:
    """Commits one verdict after the other, each until Redis answers, and knows what became of every one."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._store = SessionStore(redis, "w1", feed_entries=100, open_ttl_ms=60_000, closed_ttl_ms=60_000)
        self.committed = 0
        self.stop = False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        owned = await self._store.open(CONTRACT, length=0, digest=b"d", answer=b"opened", request=b"open")
        assert owned is not None
        while not self.stop:
            try:
                await self._commit(owned, self.committed)
            except RedisUnavailableError:
                await asyncio.sleep(0.02)

    async def _commit(self, owned: Owned, at: int) -> None:
        (status,) = await self._store.commit([Commit(owned, at + 1, at, at + 1, b"d", at + 1, 0, False, [b"v%d" % at])])
        if status is CommitStatus.BEHIND:  # a primary died before its replica had what it acknowledged
            self.committed = len(await read_log(self._redis, CONTRACT, 1))
        else:
            assert status in {CommitStatus.OK, CommitStatus.DONE}
            self.committed += 1

    async def reaches(self, count: int) -> None:
        async def reached() -> bool:
            if self.task.done():
                self.task.result()
            return self.committed >= count

        await until(reached, f"{count} commits")


async def test_a_client_that_keeps_writing_follows_to_the_replica_when_its_primary_is_killed(
    watched: RealSentinels,
) -> None:
    async with client(watched.url) as redis:
        await check_server(redis)
        writer = Writer(redis)
        await writer.reaches(50)
        old = await watched.primary()
        await old.kill()
        await writer.reaches(writer.committed + 50)
        writer.stop = True
        await writer.task
        assert await watched.primary() is not old
        # Each commit is there once and in order, or its writer was told.
        assert await read_log(redis, CONTRACT, 1) == [b"v%d" % at for at in range(writer.committed)]


async def test_a_client_that_keeps_writing_follows_when_a_primary_hands_over(watched: RealSentinels) -> None:
    async with client(watched.url) as redis:
        writer = Writer(redis)
        await writer.reaches(50)
        old = await watched.primary()
        sentinel = watched.url.split("//")[1].split(",")[0]
        async with client(f"redis://{sentinel}") as one:
            await one.execute_command("SENTINEL FAILOVER", "main")

        async def handed_over() -> bool:
            return await watched.primary() is not old

        await until(handed_over, "another primary")
        await writer.reaches(writer.committed + 50)
        writer.stop = True
        await writer.task
        assert await read_log(redis, CONTRACT, 1) == [b"v%d" % at for at in range(writer.committed)]


async def test_a_service_that_no_sentinel_knows_is_said() -> None:
    async with client("redis+sentinel://127.0.0.1:1/main") as redis:
        with pytest.raises(RedisUnavailableError, match="No master found for 'main'"):
            await check_server(redis)
