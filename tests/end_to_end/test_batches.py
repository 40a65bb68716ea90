"""Batches of three tenants while their workers and verifiers are killed: each line is answered once, as in quiet."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from dsdq.batches import Batch
from dsdq.bus.batches import BatchStore
from dsdq.bus.files import FileBounds, FileStore
from dsdq.bus.tenants import TenantStore
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.processes import Child, spawn
from dsdq.settings import Settings
from dsdq.tenants import Tenant
from dsdq.testing.hashed import decode
from tests.producers.batch.conftest import Shop, request_of

TENANTS, LINES, TOKENS = ("acme", "globex", "initech"), 60, 24
SETTINGS = ("env", "DSDQ_ALLOW_UNSAFE_REDIS=1", "DSDQ_LEASE_MS=1000", "DSDQ_HASH_STEP_MS=40", "DSDQ_SLOTS=16")
VERIFIER = ("verifier", "--target", HASH_TARGET)
WORKER = ("batch", "worker", "--draft", "hash:0.6", "--sessions", "12")
KILLS = 2


def lines() -> list[dict[str, Any]]:
    return [
        request_of(f"line {number}", f"text {number}", model=HASH_TARGET, max_tokens=TOKENS, temperature=0)
        for number in range(LINES)
    ]


async def test_each_line_is_answered_once_while_workers_and_verifiers_are_killed(redis: Redis, redis_url: str) -> None:
    for name in TENANTS:
        await TenantStore(redis).add(Tenant(name=name, created=datetime.now(UTC)))
    bounds = FileBounds.of(Settings())
    shop = Shop(FileStore(redis, bounds), BatchStore(redis, bounds.ttl_ms))
    async with AsyncExitStack() as stack:
        running = [await start(stack, redis_url, what) for what in (VERIFIER, VERIFIER, WORKER, WORKER)]
        batches = {name: await shop.hand_in(lines(), name) for name in TENANTS}
        for kill in range(KILLS):
            await until_done(shop, batches, (1 + kill) * len(TENANTS) * LINES // (KILLS + 2))
            for place in (kill, 2 + kill):  # a verifier and a worker
                running[place].send_signal(signal.SIGKILL)
                await running[place].wait()
            running += [await start(stack, redis_url, what) for what in (VERIFIER, WORKER)]
        ended = {name: await shop.until(batch, "completed", tenant=name) for name, batch in batches.items()}
        entries = {name: await shop.entries(ended[name].output_file_id, name) for name in TENANTS}
    tokenizer = Tokenizer.load(HASH_TARGET)
    expected = [tokenizer.decode(decode(tokenizer.encode(line["body"]["prompt"]), TOKENS)) for line in lines()]
    for name in TENANTS:
        assert [entry["custom_id"] for entry in entries[name]] == [line["custom_id"] for line in lines()]
        assert texts(entries[name]) == expected
        assert (ended[name].completed, ended[name].failed, ended[name].error_file_id) == (LINES, 0, None)


def texts(entries: Sequence[dict[str, Any]]) -> list[str]:
    return [entry["response"]["body"]["choices"][0]["text"] for entry in entries]


async def start(stack: AsyncExitStack, url: str, what: Sequence[str]) -> Child:
    child = await spawn([*SETTINGS, sys.executable, "-m", "dsdq", *what, "--redis", url], stdout=True)
    stack.push_async_callback(child.stop)
    assert (await child.read_line()).startswith("ready")
    return child


async def until_done(shop: Shop, batches: dict[str, Batch], count: int) -> None:
    """Wait until so many lines are done in all."""
    while True:
        found = [await shop.batches.get(name, batch.id) for name, batch in batches.items()]
        if sum(one.completed for one in found) >= count:
            return
        await asyncio.sleep(0.05)
