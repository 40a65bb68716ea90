"""What verifiers say of their work is read by whoever watches, and goes with them."""

from __future__ import annotations

from pathlib import Path

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.figures import FiguresStore
from dsdq.bus.inbox import forget_inboxes
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.telemetry.figures import Snapshot
from dsdq.testing.servers import client, real_cluster

LEASE_MS = 60_000


async def join(redis: Redis, worker: str, model: str) -> None:
    info = WorkerInfo(worker, model, "r", "f", "t", "n", 10, 10, 4, 1)
    await Registry(redis).join(info, LEASE_MS)


def snapshot(worker: str, model: str) -> Snapshot:
    return Snapshot(worker=worker, model=model, ttl_ms=LEASE_MS, generated=5)


async def test_everybody_who_serves_is_read_and_who_says_nothing_is_named(redis: Redis) -> None:
    store = FiguresStore(redis)
    assert (await store.read()).snapshots == ()
    for worker, model in (("w2", "a"), ("w1", "b"), ("w0", "b"), ("w3", "b")):
        await join(redis, worker, model)
    for worker, model in (("w2", "a"), ("w1", "b"), ("w0", "b"), ("gone", "b")):
        await store.write(snapshot(worker, model))
    for _ in range(2):  # with models that are new to it, and that it knows
        reading = await store.read()
        assert [one.worker for one in reading.snapshots] == ["w2", "w0", "w1"]
        assert reading.silent == ("w3",)


async def test_a_snapshots_age_is_what_has_passed_of_its_time(redis: Redis) -> None:
    await join(redis, "w1", "m")
    store = FiguresStore(redis)
    await store.write(snapshot("w1", "m"))
    await redis.pexpire(keys.worker_figures("w1"), LEASE_MS - 7_000)
    (one,) = (await store.read()).snapshots
    assert 7 <= one.age_s < 7 + LEASE_MS / 1000


async def test_figures_go_with_their_verifier_however_it_ends(redis: Redis) -> None:
    store = FiguresStore(redis)
    for forget in (store.forget, lambda worker: forget_inboxes(redis, worker, [])):
        await store.write(snapshot("w1", "m"))
        assert 0 < await redis.pttl(keys.worker_figures("w1")) <= LEASE_MS
        await forget("w1")
        assert await redis.keys("*") == []


async def test_figures_are_read_where_they_lie_in_a_cluster(tmp_path: Path) -> None:
    workers = [f"w{number}" for number in range(6)]
    async with real_cluster(tmp_path) as (url, _), client(url) as redis:
        for worker in workers:
            await join(redis, worker, "m")
            await FiguresStore(redis).write(snapshot(worker, "m"))
        assert len({redis.get_node_from_key(keys.worker_figures(worker)).name for worker in workers}) > 1
        reading = await FiguresStore(redis).read()
    assert [one.worker for one in reading.snapshots] == workers
    assert [one.generated for one in reading.snapshots] == [5] * len(workers)
