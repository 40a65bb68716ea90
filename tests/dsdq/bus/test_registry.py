from __future__ import annotations

import asyncio
from dataclasses import replace

import msgpack
import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.registry import Registry, WorkerInfo, unpack_info
from dsdq.errors import FencedError, WireError

INFO = WorkerInfo("w1", "org/model", "r", "f", "org/model", "float32", 100, 2048, 64, 8)


@pytest.fixture
def registry(redis: Redis) -> Registry:
    return Registry(redis)


async def test_a_worker_is_seen_from_join_to_leave(registry: Registry) -> None:
    await registry.join(INFO, 60_000)
    assert await registry.list_workers("org/model") == [INFO]
    assert await registry.list_models() == ["org/model"]
    await registry.forget("org/model", "w1")
    assert await registry.list_workers("org/model") == []
    assert await registry.list_models() == []


async def test_a_worker_that_is_leaving_takes_no_new_session(registry: Registry) -> None:
    await registry.join(INFO, 60_000)
    await registry.renew(replace(INFO, leaving=True), 60_000)
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


async def test_all_that_are_served_are_seen_whatever_was_expected(registry: Registry) -> None:
    other = replace(INFO, wid="w2", model="other")
    for info in (INFO, other):
        await registry.join(info, 60_000)
    served = {"org/model": [INFO], "other": [other]}
    for expected in ((), ("other",), ("other", "org/model"), ("gone",)):
        assert await registry.list_served(expected) == served


async def test_an_entry_of_a_later_version_is_read_for_what_is_known(redis: Redis, registry: Registry) -> None:
    await registry.join(INFO, 60_000)
    fields = msgpack.unpackb(await redis.hget(keys.worker_infos("org/model"), "w1"))
    await redis.hset(keys.worker_infos("org/model"), "w1", msgpack.packb({**fields, "later": 1}))
    assert await registry.list_workers("org/model") == [INFO]


@pytest.mark.parametrize(
    "entry", [msgpack.packb({"wid": "w2"}), msgpack.packb([1]), msgpack.packb({1: 2}), b"", b"\xc1"]
)
async def test_an_entry_that_cannot_be_read_keeps_no_other_worker_from_being_found(
    redis: Redis, registry: Registry, entry: bytes
) -> None:
    await registry.join(INFO, 60_000)
    await registry.join(replace(INFO, wid="w2"), 60_000)
    await redis.hset(keys.worker_infos("org/model"), "w2", entry)
    assert await registry.list_workers("org/model") == [INFO]
    with pytest.raises(WireError, match="registry entry"):
        unpack_info(entry)


async def test_whoever_renews_is_told_whose_lease_has_lapsed(registry: Registry) -> None:
    assert await registry.join(INFO, 1) == []
    await asyncio.sleep(0.01)
    other = replace(INFO, wid="w2")
    assert await registry.join(other, 60_000) == ["w1"]
    assert await registry.renew(other, 60_000) == ["w1"]
    await registry.forget("org/model", "w1")
    assert await registry.renew(other, 60_000) == []
    assert await registry.list_models() == ["org/model"]


async def test_a_lease_that_is_handed_over_has_lapsed_at_once(registry: Registry) -> None:
    other = replace(INFO, wid="w2")
    await registry.join(INFO, 60_000)
    assert await registry.join(other, 60_000) == []
    await registry.hand_over(INFO)
    assert await registry.renew(other, 60_000) == ["w1"]
    with pytest.raises(FencedError, match="lapsed"):
        await registry.renew(INFO, 60_000)


async def test_a_worker_that_was_forgotten_can_neither_renew_its_lease_nor_hand_it_over(
    redis: Redis, registry: Registry
) -> None:
    await registry.join(INFO, 60_000)
    await registry.forget("org/model", "w1")
    await registry.hand_over(INFO)
    with pytest.raises(FencedError, match="lapsed"):
        await registry.renew(INFO, 60_000)
    assert await redis.exists(keys.workers("org/model"), keys.worker_infos("org/model")) == 0


async def test_one_worker_at_a_time_takes_over_a_lapsed_one(redis: Redis, registry: Registry) -> None:
    claims = [registry.claim("org/model", "w1", f"heir-{number}", 60_000) for number in range(5)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 4 + [True]
    assert await registry.claim("org/model", "w2", "heir-0", 60_000)
    assert 0 < await redis.pttl(keys.recovery_claim("org/model", "w1")) <= 60_000
    await registry.release("org/model", "w1")
    assert await registry.claim("org/model", "w1", "heir-3", 60_000)
