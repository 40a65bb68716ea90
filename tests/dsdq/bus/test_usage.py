"""The ledger: counted once for each commit that is in a log, read for any span."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from dsdq.bus.sessions import Commit, CommitStatus, Owned, SessionStore, place_of
from dsdq.bus.usage import usage_of
from dsdq.contract import Contract
from dsdq.tenants.usage import Usage, total

CONTRACT = Contract("acme", "phone-1", "s1", "m", "f")
USED = Usage(committed=3, accepted=2, rejected=1, corrected=1, verified=4, prefill=7, kv_token_ms=90)


@pytest.fixture
def store(redis: Redis) -> SessionStore:
    return SessionStore(redis, "w1", feed_entries=100, open_ttl_ms=60_000, closed_ttl_ms=60_000)


async def opened(store: SessionStore, contract: Contract = CONTRACT) -> Owned:
    owned = await store.open(contract, length=0, digest=b"d", answer=b"opened", request=b"open")
    assert owned is not None
    return owned


def commit_of(owned: Owned, number: int, *, closes: bool = False) -> Commit:
    return Commit(owned, number, number - 1, number, b"d", number, 0, closes, [b"v%d" % number], USED)


async def used(redis: Redis, tenant: str = "acme") -> Usage:
    now = datetime.now(UTC)
    return total((await usage_of(redis, tenant, now - timedelta(hours=2), now + timedelta(hours=1))).values())


async def test_each_commit_counts_once_however_often_it_is_sent(store: SessionStore, redis: Redis) -> None:
    owned = await opened(store)
    for _ in range(3):
        assert (await store.commit([commit_of(owned, 1)]))[0] in (CommitStatus.OK, CommitStatus.DONE)
    assert await used(redis) == replace(USED, sessions=1)
    await store.commit([commit_of(owned, 2, closes=True)])
    assert await used(redis) == replace(USED + USED, sessions=1)


async def test_a_session_counts_once_and_one_that_was_refused_does_not(store: SessionStore, redis: Redis) -> None:
    await opened(store)
    assert await store.open(CONTRACT, length=0, digest=b"d", answer=b"opened", request=b"open") is None
    await store.refuse(replace(CONTRACT, session="s2"), answer=b"error", request=b"open")
    assert await used(redis) == Usage(sessions=1)


async def test_a_worker_that_lost_its_session_charges_for_nothing(store: SessionStore, redis: Redis) -> None:
    owned = await opened(store)
    assert await store.take_over(place_of(CONTRACT), "w1") is not None
    assert await store.commit([commit_of(owned, 1)]) == [CommitStatus.FENCED]
    assert await used(redis) == Usage(sessions=1)


async def test_usage_is_summed_over_producers_and_kept_apart_by_tenant(store: SessionStore, redis: Redis) -> None:
    others = [
        replace(CONTRACT, producer="phone-2"),
        replace(CONTRACT, tenant="acme-2"),
        replace(CONTRACT, tenant="acm"),
    ]
    for contract in (CONTRACT, *others):
        await store.commit([commit_of(await opened(store, contract), 1)])
    assert (await used(redis)).committed == 6
    assert (await used(redis, "acme-2")).committed == 3
    assert (await used(redis, "globex")) == Usage()


async def test_a_span_has_the_hours_that_begin_in_it(redis: Redis) -> None:
    first = datetime(2026, 1, 31, 23, tzinfo=UTC)
    hours = [first + timedelta(hours=number) for number in range(3)]
    for hour in hours:  # a session that was taken up in January goes on counting in its key
        await redis.hset("{p.phone-1}:acme:usage:2026-01", f"{int(hour.timestamp()) // 3600}:committed", 5)
    await redis.hset("{p.phone-1}:acme:usage:2026-01", f"{int(first.timestamp()) // 3600}:tips", 5)
    assert await usage_of(redis, "acme", hours[1], hours[2]) == {hours[1]: Usage(committed=5)}
    assert list(await usage_of(redis, "acme", first, first + timedelta(days=9))) == hours
