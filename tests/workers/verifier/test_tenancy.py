"""Tenants' records at a verifier: followed while it runs, and nothing is believed that cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretBytes
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.tenants import TenantStore
from dsdq.errors import RefusedError, SessionError
from dsdq.models.names import HASH_TARGET
from dsdq.sealing import producer_key
from dsdq.settings import settings
from dsdq.tenants import Tenant, wrap
from dsdq.testing.hashed import decode
from dsdq.wire import ErrorCode
from tests.conftest import Serve
from workers.verifier.service import Verifier
from workers.verifier.tenancy import Roster, Tenancy

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SERVICE_KEY, OLD, NEW = bytes(range(32)), bytes(32), bytes(range(1, 33))
PROMPT, TOKENS = [1, 2, 3], 12
LIMIT_S = 30


def record(name: str, **changed: Any) -> Tenant:
    return Tenant(name=name, created=NOW, **changed)


def wrapped(*secrets: bytes) -> tuple[str, ...]:
    return tuple(wrap(SERVICE_KEY, "acme", secret) for secret in secrets)


async def roster_of(redis: Redis, **changed: Any) -> Roster:
    """Return what a verifier knows of the tenants in Redis."""
    terms = {"named": (), "secrets": {}, "service_key": SERVICE_KEY, "server": (7, 0), "allow_unsafe": False}
    tenancy = Tenancy(TenantStore(redis), **terms | changed)
    await tenancy.follow()
    return tenancy.roster


async def test_without_records_default_is_served_and_with_any_only_those_are(redis: Redis) -> None:
    assert (await roster_of(redis)).served == ("default",)
    await TenantStore(redis).add(record("acme", weight=3))
    roster = await roster_of(redis)
    assert (roster.served, roster.weights) == (("acme",), {"acme": 3})
    with pytest.raises(RefusedError, match="tenant add"):
        roster.check("default")
    assert (await roster_of(redis, named=("default", "globex"))).served == ("default", "globex")


async def test_secrets_are_unwrapped_and_a_tenant_whose_cannot_be_is_not_served(redis: Redis) -> None:
    store = TenantStore(redis)
    await store.add(record("acme", secrets=wrapped(NEW, OLD)))
    await store.add(record("globex"))
    assert (await roster_of(redis)).secrets == {"acme": [NEW, OLD]}
    for key in (None, bytes(32)):
        roster = await roster_of(redis, service_key=key)
        assert (roster.served, roster.secrets, roster.unheard) == (("globex",), {"acme": []}, {"acme"})
    assert (await roster_of(redis, service_key=None, secrets={"acme": OLD})).secrets == {"acme": [OLD]}


async def test_a_server_that_keeps_no_tenants_apart_is_used_for_one(redis: Redis) -> None:
    for name in ("acme", "globex"):
        await TenantStore(redis).add(record(name))
    assert (await roster_of(redis, server=(6, 2))).served == ("acme",)
    assert (await roster_of(redis, server=(6, 2), allow_unsafe=True)).served == ("acme", "globex")


async def test_a_record_that_cannot_be_read_keeps_nobody_elses_from_being_followed(redis: Redis) -> None:
    store, told = TenantStore(redis), list[Roster]()
    tenancy = Tenancy(store, named=(), secrets={}, service_key=None, server=(7, 0), allow_unsafe=False)
    tenancy.on_change = told.append
    await store.add(record("acme"))
    for _ in range(2):
        await tenancy.follow()
    assert len(told) == 1
    await redis.hset(keys.TENANTS, "acme", '{"name": "acme", "plan": "gold"}')
    await store.add(record("globex"))
    await tenancy.follow()
    assert tenancy.roster.served == ("globex",)


async def until(verifier: Verifier, known: Callable[[Roster], bool]) -> None:
    """Wait until a verifier knows something."""
    async with asyncio.timeout(LIMIT_S):
        while not known(verifier._tenancy.roster):
            await asyncio.sleep(0.01)


async def text_of(url: str, tenant: str) -> list[int]:
    async with dsdq.connect(url, tenant=tenant) as client:
        generation = client.generate(PROMPT, draft="hash:0.8", max_tokens=TOKENS)
        return [token.id async for token in generation]


async def test_a_tenant_that_is_added_is_served_by_verifiers_that_run(
    serve: Serve, redis: Redis, redis_url: str
) -> None:
    async with serve(HASH_TARGET, allow_unsafe_redis=True) as verifier:
        assert await text_of(redis_url, "default") == decode(PROMPT, TOKENS)
        await TenantStore(redis).add(record("acme", weight=2))
        await until(verifier, lambda roster: "acme" in roster.served)
        assert await text_of(redis_url, "acme") == decode(PROMPT, TOKENS)
        assert verifier._planner.fair.weight("acme") == 2
        with pytest.raises(RefusedError, match="tenant default is not served") as refused:
            await text_of(redis_url, "default")
        assert refused.value.code == ErrorCode.TENANT_DISABLED


async def test_who_is_disabled_loses_the_sessions_and_gets_no_new_one(
    serve: Serve, redis: Redis, redis_url: str
) -> None:
    store = TenantStore(redis)
    await store.add(record("acme"))
    await store.add(record("globex"))
    async with serve(HASH_TARGET, allow_unsafe_redis=True) as verifier:
        async with dsdq.connect(redis_url, tenant="acme") as client:
            tokens = aiter(client.generate(PROMPT, draft="hash:0.8", max_tokens=500, window=1))
            await anext(tokens)
            await store.change("acme", lambda one: one.model_copy(update={"enabled": False}))
            with pytest.raises(SessionError, match="acme was disabled") as ended:
                [token async for token in tokens]
            assert ended.value.code == ErrorCode.TENANT_DISABLED
        with pytest.raises(RefusedError, match="acme is disabled"):
            await text_of(redis_url, "acme")
        assert await text_of(redis_url, "globex") == decode(PROMPT, TOKENS)
        await store.change("acme", lambda one: one.model_copy(update={"enabled": True}))
        await until(verifier, lambda roster: not roster.disabled)
        assert await text_of(redis_url, "acme") == decode(PROMPT, TOKENS)


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Return a function that gives this process a device's key, made from a tenant's secret."""

    def become(secret: bytes) -> None:
        monkeypatch.setenv("DSDQ_PRODUCER", "phone-7")
        monkeypatch.setenv("DSDQ_PRODUCER_KEY", producer_key(secret, "phone-7").hex())
        settings.cache_clear()

    yield become
    settings.cache_clear()


async def test_a_secret_is_changed_without_a_pause(
    serve: Serve, redis: Redis, redis_url: str, be: Callable[[bytes], None]
) -> None:
    store = TenantStore(redis)
    await store.add(record("acme", secrets=wrapped(OLD)))
    async with serve(HASH_TARGET, service_key=SecretBytes(SERVICE_KEY)) as verifier:
        be(OLD)
        assert await text_of(redis_url, "acme") == decode(PROMPT, TOKENS)
        await store.change("acme", lambda one: one.model_copy(update={"secrets": wrapped(NEW, OLD)}))
        await until(verifier, lambda roster: len(roster.secrets["acme"]) == 2)
        for secret in (OLD, NEW):
            be(secret)
            assert await text_of(redis_url, "acme") == decode(PROMPT, TOKENS)
        await store.change("acme", lambda one: one.model_copy(update={"secrets": wrapped(NEW)}))
        await until(verifier, lambda roster: len(roster.secrets["acme"]) == 1)
        assert await text_of(redis_url, "acme") == decode(PROMPT, TOKENS)
        assert not await redis.xlen(keys.DEAD_LETTERS)
        be(OLD)
        async with dsdq.connect(redis_url, tenant="acme") as client:
            asking = asyncio.create_task(anext(aiter(client.generate(PROMPT, draft="none", max_tokens=TOKENS))))
            async with asyncio.timeout(LIMIT_S):
                while not await redis.xlen(keys.DEAD_LETTERS):
                    await asyncio.sleep(0.01)
            asking.cancel()
