"""A device's side: every log entry once and in order, whatever the feed lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.feed import IN_STEP_S, LOOKOUTS, FeedReader, Subscription
from dsdq.bus.sessions import Commit, CommitStatus, LogEntry, Owned, SessionStore, place_of
from dsdq.contract import Contract
from dsdq.errors import GoneError

CONTRACT = Contract("acme", "phone-1", "s1", "m", "f")
LIMIT_S = 30


@pytest.fixture
def store(redis: Redis) -> SessionStore:
    return SessionStore(redis, "w1", feed_entries=100, open_ttl_ms=60_000, closed_ttl_ms=60_000)


@pytest.fixture
async def reader(redis: Redis) -> AsyncIterator[FeedReader]:
    started = FeedReader(redis, "phone-1", "acme")
    await started.start()
    yield started
    await started.stop()


async def opened(store: SessionStore, session: str = "s1") -> Owned:
    contract = replace(CONTRACT, session=session)
    owned = await store.open(contract, length=0, digest=b"d", answer=b"opened", request=b"open")
    assert owned is not None
    return owned


async def say(store: SessionStore, owned: Owned, *messages: bytes, after: int = 1) -> None:
    """Append to a log that has ``after`` entries."""
    assert await store.commit([Commit(owned, after, 0, 0, b"d", 0, 0, False, messages)]) == [CommitStatus.OK]


async def test_messages_come_in_order_each_to_its_session(store: SessionStore, reader: FeedReader) -> None:
    first, second = (reader.subscribe(replace(CONTRACT, session=name)) for name in ("s1", "s2"))
    one, two = await opened(store, "s1"), await opened(store, "s2")
    await say(store, two, b"b1")
    await say(store, one, b"a1", b"a2")
    assert [await first.get(LIMIT_S) for _ in range(3)] == [b"opened", b"a1", b"a2"]
    assert [await second.get(LIMIT_S) for _ in range(2)] == [b"opened", b"b1"]
    assert first.get_nowait() is None


async def test_what_the_feed_has_trimmed_away_is_read_from_the_log(
    redis: Redis, store: SessionStore, reader: FeedReader
) -> None:
    subscription = reader.subscribe(CONTRACT)
    owned = await opened(store)
    assert await subscription.get(LIMIT_S) == b"opened"
    pipeline = redis.pipeline()  # the reader sees the feed only after its entries were cut out of it
    head, log, feed, _ = owned.keys
    for number in range(2, 8):
        pipeline.xadd(log, {"m": b"v%d" % number, "e": 1}, id=f"{number}-0")
    pipeline.hset(head, "entries", 7)
    pipeline.xadd(feed, {"s": "s1", "n": 7, "e": 1, "m": b"v7"})
    await pipeline.execute()
    assert [await subscription.get(LIMIT_S) for _ in range(6)] == [b"v%d" % number for number in range(2, 8)]


async def test_what_comes_twice_is_given_once(redis: Redis, store: SessionStore, reader: FeedReader) -> None:
    subscription = reader.subscribe(CONTRACT)
    owned = await opened(store)
    await redis.xadd(owned.keys[2], {"s": "s1", "n": 1, "e": 1, "m": b"opened"})
    await say(store, owned, b"v2")
    assert [await subscription.get(LIMIT_S) for _ in range(2)] == [b"opened", b"v2"]
    assert subscription.get_nowait() is None


async def test_catching_up_finds_what_no_hint_told(redis: Redis, store: SessionStore, reader: FeedReader) -> None:
    subscription = reader.subscribe(CONTRACT)
    owned = await opened(store)
    assert await subscription.get(LIMIT_S) == b"opened"
    await redis.xadd(owned.keys[1], {"m": b"v2", "e": 1}, id="2-0")
    assert await reader.catch_up(subscription)
    assert subscription.get_nowait() == b"v2"
    assert not await reader.catch_up(subscription)


async def append(redis: Redis, number: int) -> None:
    """Append an answer to the session's log, of which no feed tells."""
    await redis.xadd(place_of(CONTRACT).log, {"m": b"a%d" % number, "e": 1}, id=f"{number}-0")


async def test_several_awaited_answers_are_read_from_the_log_before_any_hint(
    redis: Redis, store: SessionStore, reader: FeedReader
) -> None:
    subscription = reader.subscribe(CONTRACT)
    await opened(store)
    assert await subscription.get(LIMIT_S) == b"opened"
    reader.look_ahead(subscription, 3)
    for number in (2, 3, 4):
        await append(redis, number)
    assert [await subscription.get(LIMIT_S) for _ in range(3)] == [b"a2", b"a3", b"a4"]


async def test_a_single_answer_is_left_to_the_feed_unless_that_comes_late(
    redis: Redis, store: SessionStore, reader: FeedReader
) -> None:
    subscription = reader.subscribe(CONTRACT)
    await opened(store)
    assert await subscription.get(LIMIT_S) == b"opened"
    reader.look_ahead(subscription, 1)
    await asyncio.sleep(2 * IN_STEP_S)
    assert subscription.watched == set()
    reader.look_ahead(subscription, 2)
    for number in (2, 3):
        await append(redis, number)
        assert await subscription.get(LIMIT_S) == b"a%d" % number
    reader.look_ahead(subscription, 1)
    await append(redis, 4)
    assert await subscription.get(LIMIT_S) == b"a4"


async def test_an_awaited_answer_that_does_not_come_keeps_no_lookout_once_nobody_waits(
    reader: FeedReader, store: SessionStore
) -> None:
    subscription = reader.subscribe(CONTRACT)
    await opened(store)
    assert await subscription.get(LIMIT_S) == b"opened"
    reader.look_ahead(subscription, 2)
    assert subscription.watched == {2, 3}
    reader.unsubscribe(subscription)
    async with asyncio.timeout(LIMIT_S):
        while subscription.watched:
            await asyncio.sleep(0.01)


async def test_no_more_lookouts_are_sent_than_there_are_connections_for(reader: FeedReader) -> None:
    subscription = reader.subscribe(CONTRACT)
    reader.look_ahead(subscription, LOOKOUTS + 5)
    assert subscription.watched == set(range(1, LOOKOUTS + 1))


def test_an_answer_may_be_sighted_before_the_log_is_known_to_have_begun() -> None:
    subscription = Subscription(CONTRACT)
    subscription.sight(LogEntry(2, 1, b"verdict"))
    assert not subscription.waits
    subscription.take(LogEntry(1, 1, b"opened"))
    assert [subscription.get_nowait() for _ in range(3)] == [b"opened", b"verdict", None]


def test_answers_may_be_sighted_before_those_in_front_of_them() -> None:
    subscription = Subscription(CONTRACT)
    subscription.take(LogEntry(1, 1, b"opened"))
    subscription.sight(LogEntry(3, 1, b"second"))
    assert subscription.get_nowait() == b"opened"
    assert not subscription.waits
    subscription.sight(LogEntry(2, 1, b"first"))
    assert [subscription.get_nowait() for _ in range(3)] == [b"first", b"second", None]


def test_what_is_sighted_under_another_epoch_is_left_to_the_feed() -> None:
    subscription = Subscription(CONTRACT)
    subscription.take(LogEntry(1, 1, b"opened"))
    subscription.sight(LogEntry(3, 1, b"old"))
    subscription.sight(LogEntry(2, 2, b"another owner's"))
    subscription.take(LogEntry(2, 2, b"another owner's"))
    subscription.take(LogEntry(3, 2, b"new"))
    assert [subscription.get_nowait() for _ in range(4)] == [b"opened", b"another owner's", b"new", None]


async def test_whoever_waits_on_a_closed_subscription_is_told(reader: FeedReader) -> None:
    subscription = reader.subscribe(CONTRACT)
    waiting = asyncio.create_task(subscription.get(LIMIT_S))
    await asyncio.sleep(0)
    reader.unsubscribe(subscription)
    with pytest.raises(GoneError):
        await waiting


async def test_whoever_has_waited_long_enough_is_told_and_may_ask_again(
    store: SessionStore, reader: FeedReader
) -> None:
    subscription = reader.subscribe(CONTRACT)
    with pytest.raises(TimeoutError):
        await subscription.get(0.01)
    with pytest.raises(TimeoutError):
        await subscription.get(0)
    await opened(store)
    assert await subscription.get(LIMIT_S) == b"opened"


async def test_a_message_that_is_here_takes_no_time(store: SessionStore, reader: FeedReader) -> None:
    subscription = reader.subscribe(CONTRACT)
    await opened(store)
    async with asyncio.timeout(LIMIT_S):
        while not subscription.waits:
            await asyncio.sleep(0.005)
    assert await subscription.get(0) == b"opened"


async def test_the_reader_lives_through_a_cut_connection(redis: Redis, store: SessionStore, reader: FeedReader) -> None:
    subscription = reader.subscribe(CONTRACT)
    owned = await opened(store)
    assert await subscription.get(LIMIT_S) == b"opened"
    await redis.client_kill_filter(_type="normal", skipme=True)
    await say(store, owned, b"after")
    assert await subscription.get(LIMIT_S) == b"after"


async def test_the_feed_is_bounded(redis: Redis) -> None:
    small = SessionStore(redis, "w1", feed_entries=10, open_ttl_ms=60_000, closed_ttl_ms=60_000)
    owned = await opened(small)
    await say(small, owned, *[b"v"] * 2000)
    assert await redis.xlen(keys.feed("phone-1", "acme")) < 500
    assert await redis.xlen(owned.keys[1]) == 2001


# A log that lost its end


async def regrow(redis: Redis, owned: Owned, entries: int, *messages: bytes) -> None:
    """Let a log go on behind ``entries`` entries under a higher epoch, as after Redis lost the rest; tell no feed."""
    head, log, *_ = owned.keys
    kept = (await redis.xrange(log))[:entries]
    pipeline = redis.pipeline()
    pipeline.delete(log)
    for entry_id, fields in kept:
        pipeline.xadd(log, fields, id=entry_id)
    for number, message in enumerate(messages, entries + 1):
        pipeline.xadd(log, {"m": message, "e": 2}, id=f"{number}-0")
    pipeline.hset(head, mapping={"entries": entries + len(messages), "epoch": 2})
    await pipeline.execute()


async def test_numbers_that_were_seen_are_given_again_under_a_higher_epoch(
    redis: Redis, store: SessionStore, reader: FeedReader
) -> None:
    subscription = reader.subscribe(CONTRACT)
    owned = await opened(store)
    await say(store, owned, b"v2", b"v3")
    assert [await subscription.get(LIMIT_S) for _ in range(3)] == [b"opened", b"v2", b"v3"]
    for number, message in ((2, b"opened again"), (3, b"other"), (3, b"other")):
        await redis.xadd(owned.keys[2], {"s": "s1", "n": number, "e": 2, "m": message})
    assert [await subscription.get(LIMIT_S) for _ in range(2)] == [b"opened again", b"other"]
    await redis.xadd(owned.keys[2], {"s": "s1", "n": 4, "e": 2, "m": b"v4"})
    assert await subscription.get(LIMIT_S) == b"v4"
    assert (subscription.seen, subscription.epoch) == (4, 2)


@pytest.mark.parametrize("messages", [(b"again",), (b"again", b"other"), (b"again", b"other", b"more")], ids=len)
async def test_catching_up_finds_a_log_that_grew_again_whether_it_is_shorter_or_longer(
    redis: Redis, store: SessionStore, reader: FeedReader, messages: tuple[bytes, ...]
) -> None:
    subscription = reader.subscribe(CONTRACT)
    owned = await opened(store)
    await say(store, owned, b"v2", b"v3")
    assert [await subscription.get(LIMIT_S) for _ in range(3)] == [b"opened", b"v2", b"v3"]
    await regrow(redis, owned, 1, *messages)
    assert await reader.catch_up(subscription)
    assert [subscription.get_nowait() for _ in messages] == list(messages)
    assert not await reader.catch_up(subscription)


async def test_a_hint_under_a_higher_epoch_brings_all_that_was_written_under_it(
    redis: Redis, store: SessionStore, reader: FeedReader
) -> None:
    subscription = reader.subscribe(CONTRACT)
    owned = await opened(store)
    await say(store, owned, b"v2", b"v3")
    assert [await subscription.get(LIMIT_S) for _ in range(3)] == [b"opened", b"v2", b"v3"]
    await regrow(redis, owned, 1, b"again", b"other", b"more")
    await redis.xadd(owned.keys[2], {"s": "s1", "n": 4, "e": 2, "m": b"more"})
    assert [await subscription.get(LIMIT_S) for _ in range(3)] == [b"again", b"other", b"more"]
    assert subscription.get_nowait() is None


async def test_a_log_that_is_gone_is_said(redis: Redis, store: SessionStore, reader: FeedReader) -> None:
    subscription = reader.subscribe(CONTRACT)
    owned = await opened(store)
    assert await subscription.get(LIMIT_S) == b"opened"
    await redis.delete(*owned.keys)
    with pytest.raises(GoneError, match="its log"):
        await reader.catch_up(subscription)


async def test_who_owns_a_session_is_read_from_its_head(redis: Redis, store: SessionStore, reader: FeedReader) -> None:
    subscription = reader.subscribe(CONTRACT)
    assert await reader.owner(subscription) is None
    owned = await opened(store)
    assert await reader.owner(subscription) == "w1"
    heir = SessionStore(redis, "w2", feed_entries=100, open_ttl_ms=60_000, closed_ttl_ms=60_000)
    taken = await heir.take_over(place_of(CONTRACT), "w1")
    assert taken is not None
    assert await reader.owner(subscription) == "w2"
    mine = Owned(CONTRACT, taken.epoch, taken.owner)
    await heir.commit([Commit(mine, 1, 0, 0, b"d", 0, 0, True, [b"closed"])])
    assert await reader.owner(subscription) is None
    assert owned.epoch < mine.epoch
