"""A session changes hands: one heir gets it, the former owner is fenced, and the log is complete and has no hole."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.sessions import Commit, CommitStatus, Owned, Place, SessionStore, place_of, read_entries, read_head
from dsdq.contract import Contract

CONTRACT = Contract("acme", "phone-1", "s1", "m", "f")
PLACE = place_of(CONTRACT)


def store_of(redis: Redis, worker: str) -> SessionStore:
    return SessionStore(redis, worker, feed_entries=100, open_ttl_ms=60_000, closed_ttl_ms=60_000)


@pytest.fixture
def former(redis: Redis) -> SessionStore:
    return store_of(redis, "w1")


@pytest.fixture
def heir(redis: Redis) -> SessionStore:
    return store_of(redis, "w2")


async def opened(store: SessionStore, contract: Contract = CONTRACT) -> Owned:
    owned = await store.open(contract, length=3, digest=b"d", answer=b"opened", request=b"open")
    assert owned is not None
    return owned


def commit(owned: Owned, entries: int, *messages: bytes, closes: bool = False) -> Commit:
    """Return a commit of one token to a log that has ``entries`` entries, each but the first of one token."""
    return Commit(owned, entries, entries + 2, entries + 3, b"e", entries, 2, closes, messages)


async def take_over(store: SessionStore, former: str = "w1") -> Owned:
    taken = await store.take_over(PLACE, former)
    assert taken is not None
    return Owned(CONTRACT, taken.epoch, taken.owner)


# Takeover


async def test_an_heir_gets_a_higher_epoch_an_own_token_and_what_the_head_knew(
    redis: Redis, former: SessionStore, heir: SessionStore
) -> None:
    owned = await opened(former)
    await former.commit([commit(owned, 1, b"v1")])
    taken = await heir.take_over(PLACE, "w1")
    assert taken is not None
    assert (taken.epoch, taken.entries, taken.round, taken.branch) == (owned.epoch + 1, 2, 1, 2)
    assert taken.owner != owned.owner
    head = await read_head(redis, PLACE)
    assert head is not None
    assert (head.epoch, head.worker, head.is_open) == (taken.epoch, "w2", True)


async def test_a_session_is_in_the_heirs_set_at_once_and_leaves_the_formers_when_it_is_in_safe_hands(
    former: SessionStore, heir: SessionStore
) -> None:
    await opened(former)
    await take_over(heir)
    assert await heir.places("w1") == await heir.places("w2") == [PLACE]
    await heir.moved(PLACE, "w1")
    assert (await heir.places("w1"), await heir.places("w2")) == ([], [PLACE])


async def test_a_session_that_its_former_owner_has_again_stays_in_that_ones_set(
    former: SessionStore, heir: SessionStore
) -> None:
    await opened(former)
    await take_over(heir)
    await take_over(former, "w2")
    await heir.moved(PLACE, "w1")  # late
    await former.moved(PLACE, "w2")
    assert (await former.places("w1"), await former.places("w2")) == ([PLACE], [])


async def test_who_was_late_to_open_a_session_and_has_inherited_it_meanwhile_keeps_it_in_its_set(
    former: SessionStore, heir: SessionStore
) -> None:
    await opened(former)
    assert await heir.open(CONTRACT, length=3, digest=b"d", answer=b"opened", request=b"open") is None
    await take_over(heir)
    await heir.disown(CONTRACT)
    assert await heir.places("w2") == [PLACE]


async def test_taking_over_again_with_the_same_token_answers_the_same(redis: Redis, former: SessionStore) -> None:
    await opened(former)
    answers = [await scripts.call(redis, "takeover", [PLACE.head], ["w1", "w2", "token"]) for _ in range(3)]
    assert answers == [[b"OK", 2, 1, 0, 0]] * 3


async def test_of_many_heirs_one_gets_the_session(redis: Redis, former: SessionStore) -> None:
    await opened(former)
    heirs = [store_of(redis, f"heir-{number}") for number in range(10)]
    taken = await asyncio.gather(*(one.take_over(PLACE, "w1") for one in heirs))
    (winner,) = [number for number, one in enumerate(taken) if one is not None]
    for number, one in enumerate(heirs):
        assert await one.places(f"heir-{number}") == ([PLACE] if number == winner else [])


async def test_a_session_that_is_anothers_by_now_is_left_to_it(
    redis: Redis, former: SessionStore, heir: SessionStore
) -> None:
    await opened(former)
    await take_over(heir)
    before = await redis.hgetall(PLACE.head)
    late = store_of(redis, "w3")
    assert await late.take_over(PLACE, "w1") is None
    assert await redis.hgetall(PLACE.head) == before
    assert (await late.places("w1"), await late.places("w3")) == ([], [])


@pytest.mark.parametrize("closed", [True, False])
async def test_a_session_that_is_closed_or_gone_is_nobodys(
    redis: Redis, former: SessionStore, heir: SessionStore, closed: bool
) -> None:
    owned = await opened(former)
    if closed:
        await former.commit([commit(owned, 1, b"closed", closes=True)])
    else:
        await redis.delete(*owned.keys)
    await redis.sadd(keys.worker_sessions("w1"), str(PLACE))
    assert await heir.take_over(PLACE, "w1") is None
    assert (await heir.places("w1"), await heir.places("w2")) == ([], [])
    assert await redis.exists(PLACE.head) == closed


async def test_after_a_takeover_the_former_owner_changes_nothing_any_more(
    redis: Redis, former: SessionStore, heir: SessionStore
) -> None:
    owned = await opened(former)
    await former.commit([commit(owned, 1, b"v1")])
    mine = await take_over(heir)
    before = await redis.hgetall(PLACE.head), await read_entries(redis, PLACE)
    for late in (commit(owned, 2, b"late"), commit(owned, 2, b"closed", closes=True), commit(owned, 1, b"v1")):
        assert await former.commit([late]) == [CommitStatus.FENCED]
    assert (await redis.hgetall(PLACE.head), await read_entries(redis, PLACE)) == before
    assert await heir.commit([commit(mine, 2, b"v2")]) == [CommitStatus.OK]
    entries = await read_entries(redis, PLACE)
    assert [(one.number, one.epoch, one.message) for one in entries] == [
        (1, 1, b"opened"),
        (2, 1, b"v1"),
        (3, 2, b"v2"),
    ]


async def test_the_log_is_complete_once_a_takeover_is_answered(
    redis: Redis, former: SessionStore, heir: SessionStore
) -> None:
    owned = await opened(former)
    ahead = [former.commit([commit(owned, number, b"v%d" % number)]) for number in range(1, 20)]
    writing = asyncio.gather(*ahead)
    taken = await heir.take_over(PLACE, "w1")
    complete = await read_entries(redis, PLACE)
    await writing
    assert taken is not None
    assert taken.entries == len(complete)
    assert await read_entries(redis, PLACE) == complete


# Commits that were repeated, and logs that lost their end


async def test_a_repeated_commit_is_done_even_when_it_closed_the_session(former: SessionStore) -> None:
    owned = await opened(former)
    last = commit(owned, 1, b"v1", b"closed", closes=True)
    assert await former.commit([last]) == [CommitStatus.OK]
    assert await former.commit([last]) == [CommitStatus.DONE]
    assert await former.commit([commit(owned, 3, b"late")]) == [CommitStatus.GONE]


async def cut(redis: Redis, place: Place, entries: int) -> None:
    """Let a log end at ``entries`` entries, as after a restart of Redis from an older file."""
    kept = (await redis.xrange(place.log))[:entries]
    await redis.delete(place.log)  # XDEL would keep the stream's last id
    for entry_id, fields in kept:
        await redis.xadd(place.log, fields, id=entry_id)
    await redis.hset(place.head, mapping={"entries": entries, "length": entries + 2})


async def test_a_commit_behind_what_redis_lost_changes_nothing(redis: Redis, former: SessionStore) -> None:
    owned = await opened(former)
    await former.commit([commit(owned, number, b"v%d" % number) for number in range(1, 4)])
    await cut(redis, PLACE, 2)
    before = await redis.hgetall(PLACE.head)
    assert await former.commit([commit(owned, 4, b"v4")]) == [CommitStatus.BEHIND]
    assert await redis.hgetall(PLACE.head) == before
    assert [one.message for one in await read_entries(redis, PLACE)] == [b"opened", b"v1"]


async def test_a_worker_takes_its_own_session_over_when_its_log_was_cut(redis: Redis, former: SessionStore) -> None:
    owned = await opened(former)
    await former.commit([commit(owned, number, b"v%d" % number) for number in range(1, 4)])
    await cut(redis, PLACE, 2)
    again = await take_over(former)
    await former.moved(PLACE, "w1")
    assert again.epoch == owned.epoch + 1
    assert await former.places("w1") == [PLACE]
    assert await former.commit([commit(again, 2, b"opened again")]) == [CommitStatus.OK]
    assert await former.commit([commit(owned, 3, b"late")]) == [CommitStatus.FENCED]
    assert [(one.number, one.epoch) for one in await read_entries(redis, PLACE)] == [(1, 1), (2, 1), (3, 2)]


@pytest.mark.parametrize("lost", [True, False])
async def test_a_session_that_could_not_be_closed_stays_in_its_workers_set(
    redis: Redis, former: SessionStore, lost: bool
) -> None:
    owned = await opened(former)
    await former.commit([commit(owned, 1, b"v1")])
    if lost:
        await cut(redis, PLACE, 1)
    else:
        await take_over(former)
    assert await former.commit([commit(owned, 2, b"closed", closes=True)]) != [CommitStatus.OK]
    assert await former.places("w1") == [PLACE]


@pytest.mark.parametrize("changed", [{"expected_length": 99}, {"entries": 7}], ids=str)
async def test_an_owner_that_is_wrong_about_the_logs_end_is_behind(
    former: SessionStore, changed: dict[str, int]
) -> None:
    owned = await opened(former)
    wrong = replace(commit(owned, 1, b"v1"), **changed)  # type: ignore[arg-type]
    assert await former.commit([wrong]) == [CommitStatus.BEHIND]


# Opening


async def test_an_open_that_is_repeated_by_the_same_owner_is_answered_the_same(redis: Redis) -> None:
    whose = PLACE.producer, PLACE.tenant
    where = [PLACE.head, PLACE.log, keys.feed(*whose), keys.usage(*whose, "2026-01")]
    arguments = ["s1", "open", 1, "token", "w1", 3, b"d", b"opened", b"open", 60_000, 100, 60_000]
    assert [await scripts.call(redis, "open", where, arguments) for _ in range(2)] == [b"OK", b"OK"]
    arguments[3] = "another"
    assert await scripts.call(redis, "open", where, arguments) == b"EXISTS"
    assert await redis.xlen(PLACE.log) == await redis.xlen(where[2]) == 1


async def test_a_refusal_is_never_anybodys_own(redis: Redis, former: SessionStore) -> None:
    for _ in range(2):
        await former.refuse(CONTRACT, answer=b"error", request=b"open")
    assert await redis.xlen(PLACE.log) == 1
    assert await former.take_over(PLACE, "w1") is None


async def test_a_takeover_that_was_interrupted_is_made_again_and_the_session_stays_in_the_heirs_set(
    former: SessionStore, heir: SessionStore
) -> None:
    await opened(former)
    first = await take_over(heir)
    again = await take_over(heir)
    assert again.epoch == first.epoch + 1
    assert await heir.places("w2") == [PLACE]
    assert await heir.commit([commit(first, 1, b"v1"), commit(again, 1, b"v1")]) == [
        CommitStatus.FENCED,
        CommitStatus.OK,
    ]
