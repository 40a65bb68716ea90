"""The inbox: bounded, closed when its worker goes, and nothing leaves it unanswered."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.dead import DeadLetters, Kind
from dsdq.bus.inbox import GROUP, Bounds, Inbox, publish
from dsdq.errors import BusyError, GoneError

BOUNDS = Bounds(entries=3, kept=1, bytes_=100_000)


@pytest.fixture
async def inbox(redis: Redis) -> Inbox:
    opened = Inbox(redis, "w1", ["acme", "globex"], DeadLetters(redis, 100))
    await opened.open(BOUNDS)
    return opened


async def test_what_is_published_is_read_once_with_the_tenant_whose_inbox_it_came_through(
    redis: Redis, inbox: Inbox
) -> None:
    await publish(redis, "w1", "acme", b"one")
    await publish(redis, "w1", "globex", b"two")
    entries = await inbox.read(count=10, block_ms=100)
    assert sorted((entry.tenant, entry.payload) for entry in entries) == [("acme", b"one"), ("globex", b"two")]
    assert await inbox.read(count=10, block_ms=1) == []


async def test_a_full_inbox_is_busy_and_says_when_to_come_back_without_dropping_anything(
    redis: Redis, inbox: Inbox
) -> None:
    for number in range(3):
        await publish(redis, "w1", "acme", b"%d" % number)
    with pytest.raises(BusyError) as busy:
        await publish(redis, "w1", "acme", b"too much")
    assert busy.value.retry_after_ms > 0
    assert [entry.payload for entry in await inbox.read(count=10, block_ms=1)] == [b"0", b"1", b"2"]


@pytest.mark.usefixtures("inbox")
async def test_opens_leave_a_place_free_for_the_sessions_that_are_open(redis: Redis) -> None:
    await publish(redis, "w1", "acme", b"0", opens=True)
    await publish(redis, "w1", "acme", b"1", opens=True)
    with pytest.raises(BusyError):
        await publish(redis, "w1", "acme", b"2", opens=True)
    await publish(redis, "w1", "acme", b"a round")
    assert await redis.xlen(keys.inbox("w1", "acme")) == 3


@pytest.mark.usefixtures("inbox")
async def test_one_tenants_full_inbox_is_not_anothers(redis: Redis) -> None:
    for number in range(3):
        await publish(redis, "w1", "acme", b"%d" % number)
    await publish(redis, "w1", "globex", b"welcome")
    assert await redis.xlen(keys.inbox("w1", "globex")) == 1


async def test_settling_makes_room_and_leaves_no_memory_behind(redis: Redis, inbox: Inbox) -> None:
    for number in range(3):
        await publish(redis, "w1", "acme", b"%d" % number)
    entries = await inbox.read(count=10, block_ms=1)
    await inbox.settle(entries[:1])
    await publish(redis, "w1", "acme", b"3")
    await inbox.settle([*entries[1:], *await inbox.read(count=10, block_ms=1)])
    assert await redis.xlen(keys.inbox("w1", "acme")) == 0
    assert (await redis.xpending(keys.inbox("w1", "acme"), GROUP))["pending"] == 0


async def test_an_entry_that_was_read_but_not_settled_still_counts(redis: Redis, inbox: Inbox) -> None:
    for number in range(3):
        await publish(redis, "w1", "acme", b"%d" % number)
    await inbox.read(count=10, block_ms=1)
    with pytest.raises(BusyError):
        await publish(redis, "w1", "acme", b"3")


async def test_a_closed_or_unknown_inbox_is_gone_and_keeps_what_is_in_it(redis: Redis, inbox: Inbox) -> None:
    await publish(redis, "w1", "acme", b"early")
    await inbox.close()
    for worker in ("w1", "never-was"):
        with pytest.raises(GoneError):
            await publish(redis, worker, "acme", b"x")
    assert await inbox.holds_any()
    assert await redis.exists(keys.inbox("never-was", "acme")) == 0


async def test_a_buried_entry_lies_in_the_dead_letters_whole_with_its_reason(redis: Redis, inbox: Inbox) -> None:
    await publish(redis, "w1", "acme", b"x" * 10_000)
    (entry,) = await inbox.read(count=1, block_ms=100)
    await inbox.bury(entry, Kind.MALFORMED, "no message")
    ((_, letter),) = await redis.xrange(keys.DEAD_LETTERS)
    assert (letter[b"reason"], letter[b"tenant"], letter[b"worker"]) == (b"no message", b"acme", b"w1")
    assert len(letter[b"m"]) == 10_000
    assert await redis.xlen(keys.inbox("w1", "acme")) == 0


async def test_opening_twice_keeps_what_lies_in_the_inbox(redis: Redis, inbox: Inbox) -> None:
    await publish(redis, "w1", "acme", b"early")
    await inbox.open(BOUNDS)
    assert [entry.payload for entry in await inbox.read(count=10, block_ms=1)] == [b"early"]
