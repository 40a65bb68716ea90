"""Tenants' records as they were a moment ago; while they cannot be read, nobody waits for anybody else's attempt."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, Mock

from dsdq.bus.tenants import TenantStore
from dsdq.errors import UnavailableError
from producers.openai.tenants import Tenants


async def test_all_who_ask_in_an_outage_are_told_after_one_attempt() -> None:
    over, store = asyncio.Event(), Mock(spec=TenantStore)

    async def version() -> int:
        await over.wait()
        raise UnavailableError("redis: no answer")

    store.version = AsyncMock(side_effect=version)
    tenants = Tenants(store)
    asking = [asyncio.create_task(tenants.records()) for _ in range(5)]
    while not store.version.call_count:
        await asyncio.sleep(0)
    over.set()
    assert {type(found) for found in await asyncio.gather(*asking, return_exceptions=True)} == {UnavailableError}
    assert store.version.call_count == 1


async def test_records_are_read_once_for_all_who_ask_and_again_only_when_changed() -> None:
    store = Mock(spec=TenantStore)
    store.version, store.all = AsyncMock(return_value=3), AsyncMock(return_value={})
    tenants = Tenants(store)
    first, *others = await asyncio.gather(*(tenants.records() for _ in range(5)), tenants.records())
    assert all(one is first for one in others)
    assert (store.version.call_count, store.all.call_count) == (1, 1)
