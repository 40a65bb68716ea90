"""Limits at a verifier: reserved before a session opens, given back when it has ended, and never in a text's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.tenants import TenantStore
from dsdq.errors import QuotaError
from dsdq.models.names import HASH_TARGET
from dsdq.tenants import Limits, Tenant
from dsdq.testing.hashed import decode
from dsdq.wire import Cancel, Error, Verdict
from tests.conftest import Serve
from tests.workers.verifier.mortals import OWN, Start, after, device_of, follow, until
from workers.verifier import spending, stepping

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PROMPT, TOKENS = [1, 2, 3], 24


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "RENEW_S", 0.02)


@pytest.fixture
def acme(redis: Redis) -> Callable[..., Awaitable[None]]:
    """Return what adds tenant acme with limits."""

    async def add(**limits: int) -> None:
        await TenantStore(redis).add(Tenant(name="acme", created=NOW, limits=Limits(**limits)))

    return add


async def reserved(redis: Redis) -> dict[str, list[int]]:
    """Return the tokens and positions that are reserved, by session."""
    found: dict[bytes, bytes] = await redis.hgetall(keys.quota_reserved("acme"))
    return {session.decode(): [int(one) for one in amounts.split()[:2]] for session, amounts in found.items()}


async def test_a_device_is_told_the_limit_what_is_left_and_when_to_come_back(
    serve: Serve, redis_url: str, acme: Callable[..., Awaitable[None]]
) -> None:
    await acme(committed_per_minute=30)
    async with serve(HASH_TARGET), dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft="hash:0.8", max_tokens=TOKENS)
        assert [token.id async for token in generation] == decode(PROMPT, TOKENS)
        with pytest.raises(QuotaError, match="limit committed_per_minute of 30 leaves") as refused:
            await anext(aiter(client.generate(PROMPT, draft="hash:0.8", max_tokens=TOKENS)))
    assert (refused.value.code, refused.value.limit) == ("quota", "committed_per_minute")
    assert 6 <= refused.value.left < 24
    assert 0 < refused.value.retry_after_ms <= 36_000


async def test_what_a_session_did_not_use_is_given_back_when_it_has_ended(
    serve: Serve, redis: Redis, acme: Callable[..., Awaitable[None]]
) -> None:
    await acme(committed_per_minute=120, sessions=1)
    async with serve(HASH_TARGET) as verifier:
        first, second = device_of(redis, verifier), device_of(redis, verifier, "s2")
        await first.open()
        assert await reserved(redis) == {"phone/s1": [100, 100]}
        await first.send(Cancel("s1"))
        await first.next()
        await until(lambda: _is_empty(redis))
        await second.open()
    assert await reserved(redis) == {"phone/s2": [100, 100]}  # it is open, and the next verifier's to settle


async def _is_empty(redis: Redis) -> bool:
    return not await reserved(redis)


async def test_drafts_end_where_no_more_may_be_verified_and_the_text_goes_on(
    serve: Serve, redis: Redis, redis_url: str, acme: Callable[..., Awaitable[None]]
) -> None:
    await acme(verified_per_minute=600)
    async with serve(HASH_TARGET, hash_step_ms=2) as verifier, dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft="hash:0.1", max_tokens=500, window=8)
        ids = [token.id async for token in generation]
        assert ids == decode(PROMPT, 500)
        assert verifier._sessions.spending.frugal <= {"acme"}
        # Without the limit eight drafts for about one token each would have been verified, four thousand in all.
        assert generation.stats.judged_tokens < 1500
        left = float(await redis.hget(keys.quota("acme"), "verified_per_minute:left"))
        assert left < 100


async def test_a_session_that_drafts_on_against_the_limit_is_ended(
    serve: Serve, redis: Redis, acme: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "MOST_OVERDRAWN", 3)
    await acme(verified_per_minute=300)
    async with serve(HASH_TARGET) as verifier:
        device = device_of(redis, verifier)
        monkeypatch.setattr(verifier._sessions.spending, "_note", lambda *_: None)
        await device.open()
        verifier._sessions.spending.frugal.add("acme")
        for number in range(4):
            await device.send(device.draft((OWN[number] + 1,), number + 1, branch=number, **after(device, number)))
        said = [await device.next() for _ in range(4)]
    verdicts, end = said[:3], said[3]
    assert [one.max_window for one in verdicts if isinstance(one, Verdict)] == [0, 0, 0]
    assert isinstance(end, Error)
    assert (end.code, "no verified positions left" in end.message) == ("window_too_large", True)


async def test_a_takeover_keeps_the_reservation(
    mortal: Start, redis: Redis, acme: Callable[..., Awaitable[None]]
) -> None:
    await acme(sessions=1)
    first = await mortal(tenants=())
    device = device_of(redis, first.verifier)
    await device.open()
    await first.kill()
    await redis.delete(keys.quota_sessions("acme"), keys.quota_reserved("acme"))  # as if it had lapsed meanwhile
    heir = await mortal(tenants=())
    await follow(device, heir.verifier)

    async def renewed() -> bool:
        return bool(await reserved(redis))

    await until(renewed)
    assert await reserved(redis) == {"phone/s1": [100, 100]}


async def test_an_outage_of_the_limits_ends_nothing(
    serve: Serve, redis: Redis, acme: Callable[..., Awaitable[None]]
) -> None:
    await acme(sessions=2)
    async with serve(HASH_TARGET) as verifier:
        device = device_of(redis, verifier)
        await device.open()
        await redis.hset(keys.quota("acme"), "spoiled", "x")
        await redis.delete(keys.quota_sessions("acme"))
        await redis.set(keys.quota_sessions("acme"), "not a sorted set")
        await asyncio.sleep(0.1)
        assert len(verifier._sessions) == 1
        await redis.delete(keys.quota_sessions("acme"))

        async def renewed() -> bool:
            return bool(await redis.zcard(keys.quota_sessions("acme")))

        await until(renewed)
