"""The inbox: bounded, closed when its worker goes, and nothing leaves it unanswered."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.dead import DeadLetters, Kind
from dsdq.bus.inbox import (
    GROUP,
    Bounds,
    Entry,
    Inbox,
    close_inboxes,
    count_tries,
    forget_inboxes,
    left_behind,
    with_tries,
)
from dsdq.bus.publishing import publish
from dsdq.errors import BusyError, FencedError, GoneError

BOUNDS = Bounds(entries=3, kept=1, bytes_=100_000)


@pytest.fixture
async def inbox(redis: Redis) -> Inbox:
    opened = Inbox(redis, "w1", ["acme", "globex"], DeadLetters(redis))
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


async def size(redis: Redis, tenant: str = "acme") -> int:
    return int(await redis.get(keys.inbox_bytes("w1", tenant)) or 0)


# Bytes


async def test_an_inbox_is_full_when_its_bytes_are_used(redis: Redis, inbox: Inbox) -> None:
    await publish(redis, "w1", "acme", b"x" * 60_000)
    with pytest.raises(BusyError):
        await publish(redis, "w1", "acme", b"x" * 40_001)
    await publish(redis, "w1", "acme", b"x" * 40_000)
    assert await size(redis) == 100_000
    await inbox.settle(await inbox.read(count=1, block_ms=100))
    assert await size(redis) == 40_000
    await publish(redis, "w1", "acme", b"x" * 60_000)


@pytest.mark.usefixtures("inbox")
async def test_opens_leave_half_of_the_bytes_to_the_sessions_that_are_open(redis: Redis) -> None:
    await publish(redis, "w1", "acme", b"x" * 50_000, opens=True)
    with pytest.raises(BusyError):
        await publish(redis, "w1", "acme", b"x", opens=True)
    await publish(redis, "w1", "acme", b"x" * 50_000)


async def test_what_is_settled_twice_is_counted_once(redis: Redis, inbox: Inbox) -> None:
    for payload in (b"x" * 10, b"y" * 20):
        await publish(redis, "w1", "acme", payload)
    first, _ = await inbox.read(count=10, block_ms=100)
    await inbox.settle([first, first])
    await inbox.settle([first])
    assert await size(redis) == 20
    assert await redis.xlen(keys.inbox("w1", "acme")) == 1


async def test_each_tenants_bytes_are_counted_by_themselves(redis: Redis, inbox: Inbox) -> None:
    await publish(redis, "w1", "acme", b"x" * 10)
    await publish(redis, "w1", "globex", b"y" * 20)
    assert (await size(redis, "acme"), await size(redis, "globex")) == (10, 20)
    await inbox.settle(await inbox.read(count=10, block_ms=100))
    assert (await size(redis, "acme"), await size(redis, "globex")) == (0, 0)


async def test_a_counter_that_was_lost_never_falls_below_nothing(redis: Redis, inbox: Inbox) -> None:
    await publish(redis, "w1", "acme", b"x" * 10)
    await redis.delete(keys.inbox_bytes("w1", "acme"))
    await inbox.settle(await inbox.read(count=10, block_ms=100))
    assert await size(redis) == 0


# Busy


@pytest.mark.parametrize(("drained_per_s", "ms"), [(1, 4000), (8, 500), (2000, 5), (0.01, 4000)], ids=str)
async def test_a_full_inbox_asks_to_come_back_when_a_sixteenth_of_it_has_drained(
    redis: Redis, drained_per_s: float, ms: int
) -> None:
    inbox = Inbox(redis, "w1", ["acme"], DeadLetters(redis))
    await inbox.open(Bounds(entries=64, kept=1, bytes_=1))
    await inbox.beat(drained_per_s, 60_000)
    with pytest.raises(BusyError) as busy:
        await publish(redis, "w1", "acme", b"too much")
    assert busy.value.retry_after_ms == ms


async def test_nobody_is_sent_away_for_longer_than_five_seconds(redis: Redis) -> None:
    await Inbox(redis, "w1", ["acme"], DeadLetters(redis)).open(Bounds(entries=10_000, kept=1, bytes_=1))
    with pytest.raises(BusyError) as busy:
        await publish(redis, "w1", "acme", b"too much")
    assert busy.value.retry_after_ms == 5000


async def test_an_open_is_refused_for_its_tenant_while_the_worker_says_so_and_a_round_is_not(redis: Redis) -> None:
    inbox = Inbox(redis, "w1", ["acme", "globex"], DeadLetters(redis))
    await inbox.open(Bounds(entries=64, kept=1, bytes_=1000))
    await inbox.refuse_opens({"acme": 700})
    with pytest.raises(BusyError) as busy:
        await publish(redis, "w1", "acme", b"open", opens=True)
    assert busy.value.retry_after_ms == 700
    await publish(redis, "w1", "acme", b"round")
    await publish(redis, "w1", "globex", b"open", opens=True)
    await inbox.refuse_opens({})
    await publish(redis, "w1", "acme", b"open", opens=True)


async def test_a_heartbeat_says_again_whose_opens_are_refused(redis: Redis) -> None:
    inbox = Inbox(redis, "w1", ["acme"], DeadLetters(redis))
    await inbox.open(Bounds(entries=64, kept=1, bytes_=1000))
    await inbox.refuse_opens({"acme": 700})
    await redis.hset(keys.worker_state("w1"), "busy:acme", 0)  # a failover lost it
    await inbox.beat(1, ttl_ms=60_000)
    with pytest.raises(BusyError):
        await publish(redis, "w1", "acme", b"open", opens=True)


# Loss


async def test_an_inbox_that_somebody_deleted_is_made_again_and_skips_nothing(redis: Redis, inbox: Inbox) -> None:
    await redis.delete(keys.inbox("w1", "acme"))
    with pytest.raises(GoneError):
        await publish(redis, "w1", "acme", b"too early")
    assert await inbox.read(count=10, block_ms=1) == []
    await publish(redis, "w1", "acme", b"x", producer="phone")
    assert [(one.payload, one.producer) for one in await inbox.read(count=10, block_ms=100)] == [(b"x", "phone")]


async def test_a_worker_whose_inboxes_another_closed_and_removed_does_not_make_them_again(
    redis: Redis, inbox: Inbox
) -> None:
    assert await close_inboxes(redis, "w1") == ["acme", "globex"]
    await forget_inboxes(redis, "w1", ["acme", "globex"])
    with pytest.raises(FencedError, match="closed by another worker"):
        await inbox.read(count=10, block_ms=1)
    assert await redis.keys("*") == []


async def test_a_silent_workers_keys_do_not_stay_for_ever(redis: Redis, inbox: Inbox) -> None:
    await publish(redis, "w1", "acme", b"x")
    await publish(redis, "w1", "globex", b"y")
    await inbox.beat(10, 60_000)
    for key in await redis.keys("*"):
        assert 0 < await redis.pttl(key) <= 60_000, key


# What a worker leaves


async def test_an_heir_closes_the_inboxes_and_finds_all_that_lies_in_them_read_or_not(
    redis: Redis, inbox: Inbox
) -> None:
    for number in range(2):
        await publish(redis, "w1", "acme", b"%d" % number, producer="phone")
    await inbox.read(count=1, block_ms=100)
    await publish(redis, "w1", "globex", b"2")
    tenants = await close_inboxes(redis, "w1")
    with pytest.raises(GoneError):
        await publish(redis, "w1", "acme", b"3")
    entries = [one async for page in left_behind(redis, "w1", tenants) for one in page]
    assert [(one.worker, one.tenant, one.payload, one.producer) for one in entries] == [
        ("w1", "acme", b"0", "phone"),
        ("w1", "acme", b"1", "phone"),
        ("w1", "globex", b"2", ""),
    ]


async def test_what_was_left_behind_is_read_page_by_page(redis: Redis) -> None:
    pipeline = redis.pipeline(transaction=False)
    for number in range(600):
        pipeline.xadd(keys.inbox("w1", "acme"), {"m": b"%d" % number})
    await pipeline.execute()
    pages = [page async for page in left_behind(redis, "w1", ["acme", "globex"])]
    assert max(map(len, pages)) < 300
    assert [one.payload for page in pages for one in page] == [b"%d" % number for number in range(600)]


async def test_an_heir_settles_what_it_inherited_beside_its_own(redis: Redis, inbox: Inbox) -> None:
    heir = Inbox(redis, "w2", ["acme"], DeadLetters(redis))
    await heir.open(BOUNDS)
    for worker in ("w1", "w2"):
        await publish(redis, worker, "acme", b"x")
    await inbox.read(count=10, block_ms=100)
    inherited = [one async for page in left_behind(redis, "w1", ["acme"]) for one in page]
    await heir.settle([*inherited, *await heir.read(count=10, block_ms=100)])
    for worker in ("w1", "w2"):
        assert await redis.xlen(keys.inbox(worker, "acme")) == 0
        assert (await redis.xpending(keys.inbox(worker, "acme"), GROUP))["pending"] == 0
        assert await redis.get(keys.inbox_bytes(worker, "acme")) is None


async def test_tries_are_counted_for_each_entry(redis: Redis) -> None:
    first, second = (Entry("w1", tenant, "1-0", {}) for tenant in ("acme", "globex"))
    await count_tries(redis, [first])
    await count_tries(redis, [first, second])
    await count_tries(redis, [])
    assert [entry.tries for entry in await with_tries(redis, "w1", [first, second])] == [2, 1]
    assert await with_tries(redis, "w1", []) == []


async def test_a_worker_that_is_forgotten_leaves_nothing(redis: Redis, inbox: Inbox) -> None:
    await publish(redis, "w1", "acme", b"x")
    await count_tries(redis, await inbox.read(count=10, block_ms=100))
    await redis.sadd(keys.worker_sessions("w1"), "phone/acme/s1")
    await inbox.forget()
    assert await redis.keys("*") == []


async def test_a_worker_that_never_was_has_no_inboxes_to_close(redis: Redis) -> None:
    assert await close_inboxes(redis, "never-was") == []
    assert await redis.keys("*") == []


# Floods: what a device puts in by itself, past the bound


async def flood(redis: Redis, tenant: str, entries: int) -> None:
    pipeline = redis.pipeline(transaction=False)
    for number in range(entries):
        pipeline.xadd(keys.inbox("w1", tenant), {"m": b"%d" % number})
    await pipeline.execute()


async def test_what_is_put_in_past_twice_the_bound_is_cut_from_its_newest_end(redis: Redis, inbox: Inbox) -> None:
    await flood(redis, "acme", 20)
    await flood(redis, "globex", 4)
    await inbox.beat(1, ttl_ms=60_000)
    left = [fields[b"m"] for _, fields in await redis.xrange(keys.inbox("w1", "acme"))]
    assert left == [b"%d" % number for number in range(6)]
    assert await redis.xlen(keys.inbox("w1", "globex")) == 4


async def test_what_was_cut_is_counted_and_a_sample_is_kept(redis: Redis, inbox: Inbox) -> None:
    await flood(redis, "acme", 5_000)
    await inbox.beat(1, ttl_ms=60_000)
    dead = DeadLetters(redis)
    assert await redis.xlen(keys.inbox("w1", "acme")) == 6
    assert await dead.counts() == {"flood": 4_994}
    letters = await dead.list(100)
    assert 0 < len(letters) < 100
    assert {(letter.kind, letter.tenant) for letter in letters} == {("flood", "acme")}
    assert await redis.get(keys.inbox_bytes("w1", "acme")) == b"0"


async def test_what_a_worker_has_read_is_never_cut(redis: Redis, inbox: Inbox) -> None:
    await flood(redis, "acme", 20)
    assert len(await inbox.read(count=10, block_ms=1)) == 10
    await inbox.beat(1, ttl_ms=60_000)
    assert await redis.xlen(keys.inbox("w1", "acme")) == 10


async def test_a_flooded_tenants_messages_do_not_come_before_anothers(redis: Redis, inbox: Inbox) -> None:
    await flood(redis, "acme", 1_000)
    await publish(redis, "w1", "globex", b"mine")
    entries = await inbox.read(count=10, block_ms=1)
    assert [entry.payload for entry in entries if entry.tenant == "globex"] == [b"mine"]
    assert len(entries) == 11


@pytest.mark.parametrize("count", [-(2**63), 2**63 - 1, -1])
async def test_a_count_of_bytes_that_a_device_has_spoiled_harms_no_worker(
    redis: Redis, inbox: Inbox, count: int
) -> None:
    await redis.incrby(keys.inbox_bytes("w1", "acme"), count)
    await flood(redis, "acme", 20)
    await inbox.settle(await inbox.read(count=3, block_ms=1))
    await inbox.beat(1, ttl_ms=60_000)
    assert int(await redis.get(keys.inbox_bytes("w1", "acme"))) >= 0
