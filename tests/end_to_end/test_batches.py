"""Batches of three tenants while worker and verifier are killed: each line once, with the quiet run's text.

``DSDQ_TEST_LINES`` of each tenant, 100 unless it is set; 667 are two thousand in all.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.batches import Batch, Status
from dsdq.bus.batches import BatchStore
from dsdq.bus.connection import open_redis
from dsdq.bus.files import FileBounds, FileStore
from dsdq.bus.tenants import TenantStore
from dsdq.contract import Sampling
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.tenants import Tenant
from dsdq.testing.hashed import decode
from dsdq.testing.killer import Killer, Victim
from dsdq.testing.servers import RealServer
from producers.batch.lines import seed_of
from tests.conftest import newest_server
from tests.producers.batch.conftest import Shop, request_of

TENANTS, TOKENS, KILLS, LATEST_S = ("acme", "globex", "initech"), 24, 2, 200
LINES = int(os.environ.get("DSDQ_TEST_LINES", "100"))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RealServer]:
    async with RealServer(tmp_path, program=newest_server()) as started:
        yield started


@pytest.fixture
async def client(server: RealServer) -> AsyncIterator[Redis]:
    redis = open_redis(server.url)
    yield redis
    await redis.aclose()


def command(url: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "dsdq", *arguments, "--redis", url]


async def started(killer: Killer) -> Victim:
    victim = await killer.start()
    assert await victim.until_ready()
    return victim


def lines_of(tenant: str) -> list[dict[str, Any] | bytes]:
    """Return a tenant's lines: half of them greedy, half drawn with the seed of the line; and a bad one."""
    good = [
        request_of(f"{tenant}-{n}", [n + 1, len(tenant)], model=HASH_TARGET, max_tokens=TOKENS, temperature=n % 2)
        for n in range(LINES)
    ]
    return [*good, b"oops"]


async def progress(shop: Shop, batches: dict[str, Batch]) -> int:
    return sum([(await shop.batches.get(tenant, one.id)).completed for tenant, one in batches.items()])


async def until_done(shop: Shop, batches: dict[str, Batch], count: int) -> None:
    while await progress(shop, batches) < count:
        await asyncio.sleep(0.02)


async def test_each_line_is_answered_once_with_its_text_though_workers_and_verifiers_are_killed(
    server: RealServer, client: Redis
) -> None:
    shop = Shop(FileStore(client, FileBounds(1 << 22, 1 << 22, 600_000)), BatchStore(client, 600_000))
    for tenant in TENANTS:
        await TenantStore(client).add(Tenant(name=tenant, created=datetime.now(UTC)))
    batches = {tenant: await shop.hand_in(lines_of(tenant), tenant) for tenant in TENANTS}
    async with (
        asyncio.timeout(LATEST_S),
        Killer(command(server.url, "verifier", "--target", HASH_TARGET)) as verifiers,
        Killer(command(server.url, "batch", "worker", "--draft", "hash:0.8", "--sessions", "8")) as workers,
    ):
        verifier, _, worker = await asyncio.gather(started(verifiers), started(verifiers), started(workers))
        for kill in range(KILLS):
            await until_done(shop, batches, (1 + 2 * kill) * LINES // 2)
            verifier.kill()
            verifier = await started(verifiers)
            await until_done(shop, batches, (2 + 2 * kill) * LINES // 2)
            worker.kill()
            await worker.wait()
            held = [await client.zcard(keys.line_leases(tenant)) for tenant in TENANTS]
            assert sum(held) > 0
            worker = await started(workers)
        ended = {tenant: await shop.until(one, Status.COMPLETED, tenant=tenant) for tenant, one in batches.items()}
    await check(shop, ended)


async def check(shop: Shop, ended: dict[str, Batch]) -> None:
    """Check that each line has its own text, once."""
    tokenizer = Tokenizer.load("builtin/target")
    for tenant, batch in ended.items():
        assert (batch.total, batch.completed, batch.failed) == (LINES + 1, LINES, 1)
        assert batch.sums["completion_tokens"] == LINES * TOKENS
        entries = await shop.entries(batch.output_file_id, tenant)
        assert [one["custom_id"] for one in entries] == [f"{tenant}-{n}" for n in range(LINES)]
        for n, one in enumerate(entries):
            seed = seed_of(batch.id, one["custom_id"])
            ids = decode([n + 1, len(tenant)], TOKENS, Sampling(temperature=n % 2), seed)
            assert one["response"]["body"]["choices"][0]["text"] == tokenizer.decode(ids)
        assert [one["error"]["code"] for one in await shop.entries(batch.error_file_id, tenant)] == ["invalid_json"]


async def test_a_batch_outlives_a_redis_that_is_killed(server: RealServer, client: Redis) -> None:
    shop = Shop(FileStore(client, FileBounds(1 << 22, 1 << 22, 600_000)), BatchStore(client, 600_000))
    batch = await shop.hand_in(lines_of("default"), "default")
    async with (
        asyncio.timeout(LATEST_S),
        Killer(command(server.url, "verifier", "--target", HASH_TARGET)) as verifiers,
        Killer(command(server.url, "batch", "worker", "--draft", "hash:0.8", "--sessions", "8")) as workers,
    ):
        await asyncio.gather(started(verifiers), started(workers))
        for kill in range(KILLS):
            await until_done(shop, {"default": batch}, (1 + kill) * LINES // 3)
            await server.kill()
            await server.start()
        ended = await shop.until(batch, Status.COMPLETED, tenant="default")
    await check(shop, {"default": ended})


async def test_a_worker_that_is_told_to_stop_gives_its_lines_back_at_once(server: RealServer, client: Redis) -> None:
    shop = Shop(FileStore(client, FileBounds(1 << 22, 1 << 22, 600_000)), BatchStore(client, 600_000))
    batch = await shop.hand_in(lines_of("default"), "default")
    async with (
        asyncio.timeout(LATEST_S),
        Killer(command(server.url, "batch", "worker", "--draft", "hash:0.8", "--sessions", "8")) as workers,
    ):
        worker = await started(workers)  # nobody serves: its lines wait
        while await client.zcard(keys.line_leases("default")) < 8:
            await asyncio.sleep(0.02)
        worker.terminate()
        await worker.wait()
        assert worker.exit_code == 0
    assert await client.zcard(keys.line_leases("default")) == 0
    (outlook,) = await shop.batches.look(["default"])
    assert (outlook.waiting, outlook.running) == (LINES, 0)
    assert (await shop.batches.get("default", batch.id)).failed == 1
