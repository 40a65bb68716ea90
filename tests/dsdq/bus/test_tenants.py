"""Records in Redis: changed one after the other, found by an API key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError, DeniedError
from dsdq.tenants import Tenant, fresh_key

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def store(redis: Redis) -> TenantStore:
    return TenantStore(redis)


async def test_a_tenant_is_added_once_and_counted_as_a_change(store: TenantStore) -> None:
    assert (await store.version(), await store.all()) == (0, {})
    acme = Tenant(name="acme", created=NOW)
    await store.add(acme)
    with pytest.raises(ConfigError, match="added before"):
        await store.add(Tenant(name="acme", created=NOW, weight=5))
    assert (await store.version(), await store.all()) == (1, {"acme": acme})


async def test_changes_that_come_together_are_all_made(store: TenantStore) -> None:
    await store.add(Tenant(name="acme", created=NOW, weight=1))
    await asyncio.gather(
        *(store.change("acme", lambda one: one.model_copy(update={"weight": one.weight + 1})) for _ in range(5))
    )
    assert (await store.get("acme")).weight == 6
    assert await store.version() == 6


async def test_who_was_not_added_is_not_there(store: TenantStore) -> None:
    for attempt in (store.get("acme"), store.change("acme", lambda one: one)):
        with pytest.raises(ConfigError, match="tenant list"):
            await attempt


async def test_a_tenant_is_found_by_its_key(store: TenantStore) -> None:
    text, record = fresh_key("acme")
    await store.add(Tenant(name="acme", created=NOW, keys=(record,)))
    await store.add(Tenant(name="globex", created=NOW))
    assert (await store.authenticate(text)).name == "acme"
    for wrong in (fresh_key("acme")[0], text.replace("acme", "globex"), fresh_key("initech")[0]):
        with pytest.raises(DeniedError, match="API key: expected"):
            await store.authenticate(wrong)


async def test_a_record_of_a_release_that_knows_more_is_not_guessed_at(store: TenantStore, redis: Redis) -> None:
    await store.add(Tenant(name="globex", created=NOW))
    await redis.hset(keys.TENANTS, "acme", '{"name": "acme", "created": "2026-01-02T00:00:00Z", "plan": "gold"}')
    with pytest.raises(ConfigError, match="plan"):
        await store.get("acme")
    assert list(await store.all()) == ["globex"]
