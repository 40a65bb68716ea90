from __future__ import annotations

import asyncio
from dataclasses import replace

import msgpack
import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.errors import FencedError

INFO = WorkerInfo("w1", "org/model", "r", "f", "org/model", "float32", 100, 2048, 64, 8)


@pytest.fixture
def registry(redis: Redis) -> Registry:
    return Registry(redis)


async def test_a_worker_is_seen_from_join_to_leave(registry: Registry) -> None:
    await registry.join(INFO, 60_000)
    assert await registry.list_workers("org/model") == [INFO]
    assert await registry.list_models() == ["org/model"]
    await registry.leave(INFO)
    assert await registry.list_workers("org/model") == []


async def test_a_heartbeat_shows_the_load(registry: Registry) -> None:
    await registry.join(INFO, 60_000)
    await registry.renew(replace(INFO, sessions=5, steps=10, rows=30), 60_000)
    (seen,) = await registry.list_workers("org/model")
    assert (seen.sessions, seen.steps, seen.rows) == (5, 10, 30)


async def test_a_worker_whose_lease_lapsed_is_not_seen_and_can_never_renew_it(registry: Registry) -> None:
    await registry.join(INFO, 1)
    await asyncio.sleep(0.01)
    assert await registry.list_workers("org/model") == []
    with pytest.raises(FencedError, match="lapsed"):
        await registry.renew(INFO, 60_000)
    assert await registry.list_workers("org/model") == []


async def test_workers_of_one_model_are_not_anothers(registry: Registry) -> None:
    await registry.join(INFO, 60_000)
    await registry.join(replace(INFO, wid="w2", model="other"), 60_000)
    assert [worker.wid for worker in await registry.list_workers("other")] == ["w2"]


async def test_an_entry_of_a_later_version_is_read_for_what_is_known(redis: Redis, registry: Registry) -> None:
    await registry.join(INFO, 60_000)
    fields = msgpack.unpackb(await redis.hget(keys.worker_infos("org/model"), "w1"))
    await redis.hset(keys.worker_infos("org/model"), "w1", msgpack.packb({**fields, "later": 1}))
    assert await registry.list_workers("org/model") == [INFO]
