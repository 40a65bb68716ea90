"""What arq carries, on a real Redis: from a batch that is handed in to one that has ended, with nobody told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgpack
import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.batches import Status
from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError
from dsdq.tenants import Tenant
from producers.batch import desk as desk_module
from producers.batch import queue
from producers.batch.desk import Desk
from producers.batch.queue import QUEUE, Tender, arq_of, check_address, work
from tests.producers.batch.conftest import Echo, Shop, request_of


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in ((queue, ("TEND_S", "POLL_S", "RETRY_S", "AGAIN_S")), (desk_module, ("BEAT_S", "LOOK_S"))):
        for name in names:
            monkeypatch.setattr(module, name, 0.05)


def tender_of(redis: Redis, shop: Shop, echo: Echo, sessions: int = 8) -> Tender:
    desk = Desk(shop.batches, echo, sessions)
    return Tender(desk, shop.files, TenantStore(redis), arq_of(redis), sessions)


@asynccontextmanager
async def at_work(redis: Redis, shop: Shop, echo: Echo, sessions: int = 8) -> AsyncIterator[None]:
    """Run a worker for the block; it stops in order with it."""
    stop, ready = asyncio.Event(), asyncio.Event()
    tender = tender_of(redis, shop, echo, sessions)
    working = asyncio.create_task(work(tender, tender._desk, tender._arq, stop, ready.set))
    await ready.wait()
    try:
        yield
    finally:
        stop.set()
        await working


async def test_batches_of_several_tenants_are_done_once_each_by_several_workers(
    redis: Redis, shop: Shop, echo: Echo
) -> None:
    lines = [*(request_of(f"{n}", prompt=f"{n}") for n in range(40)), b"oops"]
    handed_in = {tenant: await shop.hand_in(lines, tenant) for tenant in ("a", "b", "c")}
    async with at_work(redis, shop, echo), at_work(redis, shop, echo, 3):
        for tenant, batch in handed_in.items():
            ended = await shop.until(batch, Status.COMPLETED, tenant=tenant)
            assert (ended.total, ended.completed, ended.failed) == (41, 40, 1)
            found = await shop.entries(ended.output_file_id, tenant)
            assert [one["custom_id"] for one in found] == [f"{n}" for n in range(40)]
    assert set(echo.began.values()) == {1}
    assert len(echo.began) == 120


async def test_a_cancelled_batch_ends_with_what_is_finished(redis: Redis, shop: Shop) -> None:
    echo = Echo(asyncio.Event())
    batch = await shop.hand_in([request_of(f"{n}", prompt=f"{n}") for n in range(40)])
    async with at_work(redis, shop, echo):
        while echo.busy < 8:
            await asyncio.sleep(0.01)
        await shop.batches.cancel("acme", batch.id)
        ended = await shop.until(batch, Status.CANCELLED)
        assert echo.cancelled == 8
    assert len(await shop.entries(ended.error_file_id)) == 40


async def test_a_batch_whose_window_is_over_expires(redis: Redis, shop: Shop) -> None:
    echo = Echo(asyncio.Event())
    batch = await shop.hand_in([request_of(f"{n}", prompt=f"{n}") for n in range(3)])
    async with at_work(redis, shop, echo):
        while echo.busy < 3:
            await asyncio.sleep(0.01)
        await redis.hset(keys.batch("acme", batch.id), "deadline_ms", 1)
        ended = await shop.until(batch, Status.EXPIRED)
    assert len(await shop.entries(ended.error_file_id)) == 3


async def test_a_disabled_tenants_lines_wait(redis: Redis, shop: Shop, echo: Echo) -> None:
    store = TenantStore(redis)
    await store.add(Tenant(name="acme", created=datetime.now(UTC), enabled=False))
    shut, other = await shop.hand_in([request_of("a")]), await shop.hand_in([request_of("b")], "globex")
    async with at_work(redis, shop, echo):
        await shop.until(other, Status.COMPLETED, tenant="globex")
        await shop.until(shut, Status.IN_PROGRESS)
        assert {tenant for tenant, _ in echo.began} == {"globex"}
        await store.change("acme", lambda one: one.model_copy(update={"enabled": True}))
        await shop.until(shut, Status.COMPLETED)


async def test_after_arqs_keys_are_lost_everything_is_done_all_the_same(redis: Redis, shop: Shop, echo: Echo) -> None:
    batch = await shop.hand_in([request_of(f"{n}", prompt=f"{n}") for n in range(20)])
    await tender_of(redis, shop, echo).tend_once()
    await redis.delete(*await redis.keys("arq:*"))
    async with at_work(redis, shop, echo):
        assert (await shop.until(batch, Status.COMPLETED)).completed == 20


async def test_jobs_of_a_worker_that_was_killed_hold_nobody_up(redis: Redis, shop: Shop, echo: Echo) -> None:
    batch = await shop.prepared([request_of(f"{n}", prompt=f"{n}") for n in range(20)])
    dead = tender_of(redis, shop, echo)
    await dead.tend_once()
    for job in await redis.zrange(QUEUE, 0, -1):
        await redis.set(f"arq:in-progress:{job.decode()}", "1")
    async with at_work(redis, shop, echo):
        assert (await shop.until(batch, Status.COMPLETED)).completed == 20


async def test_jobs_are_msgpack_under_arqs_keys_and_as_many_as_there_is_to_do(
    redis: Redis, shop: Shop, echo: Echo
) -> None:
    await shop.hand_in([request_of("a")], "globex")
    await shop.prepared([request_of(f"{n}") for n in range(9)])
    tender = tender_of(redis, shop, echo, 32)
    for _ in range(2):
        await tender.tend_once()
    found = [msgpack.unpackb(await redis.get(key)) for key in await redis.keys("arq:job:*")]
    assert sorted(one["f"] for one in found) == ["chore", "turn", "turn", "turn"]
    strangers = {key.partition(b":")[0] for key in await redis.keys("*")}
    assert strangers == {b"arq", b"{b.acme}", b"{b.globex}", b"{batches}"}


async def test_no_results_of_jobs_are_kept(redis: Redis, shop: Shop, echo: Echo) -> None:
    batch = await shop.hand_in([request_of("a")])
    async with at_work(redis, shop, echo):
        await shop.until(batch, Status.COMPLETED)
    assert await redis.keys("arq:result:*") == []


def test_a_cluster_is_refused() -> None:
    check_address("redis+sentinel://h:1/main")
    with pytest.raises(ConfigError, match=r"got the cluster redis\+cluster://…@h:1"):
        check_address("redis+cluster://me:secret@h:1")
