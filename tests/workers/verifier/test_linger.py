"""Devices that come at different times fall into step, where a pass costs the same for one of them as for both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import dsdq

STEP_MS = 60


@pytest.mark.parametrize("depth", [1, 2])
async def test_devices_that_took_turns_come_to_share_their_steps(
    mortal: Callable[..., Awaitable[Any]], redis_url: str, depth: int
) -> None:
    await mortal(hash_step_ms=STEP_MS)

    async def rows(client: dsdq.Client, number: int) -> list[int]:
        await asyncio.sleep(number * STEP_MS / 2000)
        generation = client.generate(
            [5, 9, number], draft="hash:0.6", policy=f"static:4:{depth}", seed=number, max_tokens=100
        )
        async for _ in generation:
            pass
        return generation.stats.batch_rows

    async with dsdq.connect(redis_url, tenant="acme") as client:
        both = await asyncio.gather(rows(client, 0), rows(client, 1))
    shared = [one[10:25].count(2) for one in both]
    # Nearly all; on a machine that does much else rounds may be late now and then. Those that take turns share none.
    assert min(shared) >= 8, both
