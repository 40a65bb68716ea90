"""The session log: begun once, appended to by its owner alone, exactly once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.sessions import Commit, CommitStatus, Owned, SessionStore, read_log
from dsdq.contract import Contract

CONTRACT = Contract("acme", "phone-1", "s1", "m", "f")


@pytest.fixture
def store(redis: Redis) -> SessionStore:
    return SessionStore(redis, "w1", feed_entries=100, open_ttl_ms=60_000, closed_ttl_ms=60_000)


async def opened(store: SessionStore, contract: Contract = CONTRACT) -> Owned:
    owned = await store.open(contract, length=3, digest=b"d", answer=b"opened", request=b"open")
    assert owned is not None
    return owned


def commit(owned: Owned, entries: int, *messages: bytes, closes: bool = False) -> Commit:
    """Return a commit of one token to a log that has ``entries`` entries, each but the first of one token."""
    return Commit(owned, entries, entries + 2, entries + 3, b"e", entries, 0, closes, messages)


async def test_a_log_begins_with_the_answer_beside_its_request(redis: Redis, store: SessionStore) -> None:
    owned = await opened(store)
    entries = await redis.xrange(keys.session_log("phone-1", "acme", "s1"))
    assert entries == [(b"1-0", {b"m": b"opened", b"e": b"1", b"o": b"open"})]
    head = await redis.hgetall(keys.session_head("phone-1", "acme", "s1"))
    assert (head[b"owner"].decode(), head[b"worker"], head[b"length"]) == (owned.owner, b"w1", b"3")


async def test_a_session_stands_in_its_workers_set_before_its_log_exists_and_leaves_it_when_closed(
    redis: Redis, store: SessionStore
) -> None:
    owned = await opened(store)
    assert await redis.smembers(keys.worker_sessions("w1")) == {b"phone-1/acme/s1"}
    await store.commit([commit(owned, 1, b"v", closes=True)])
    assert await redis.smembers(keys.worker_sessions("w1")) == set()


@pytest.mark.parametrize("wrong", [{"entries": 7}, {"owned": Owned(CONTRACT, 2, "another")}], ids=["behind", "fenced"])
async def test_a_session_that_could_not_be_closed_stays_in_its_workers_set(
    redis: Redis, store: SessionStore, wrong: dict[str, object]
) -> None:
    owned = await opened(store)
    await store.commit([replace(commit(owned, 1, b"v", closes=True), **wrong)])  # type: ignore[arg-type]
    assert await redis.smembers(keys.worker_sessions("w1")) == {b"phone-1/acme/s1"}


async def test_a_session_opens_once(redis: Redis, store: SessionStore) -> None:
    await opened(store)
    again = await store.open(CONTRACT, length=3, digest=b"d", answer=b"another", request=b"open")
    assert again is None
    assert await read_log(redis, CONTRACT, 0) == [b"opened"]


async def test_commits_are_numbered_in_the_log_and_hinted_at_in_the_feed(redis: Redis, store: SessionStore) -> None:
    owned = await opened(store)
    assert await store.commit([commit(owned, 1, b"v1")]) == [CommitStatus.OK]
    assert await store.commit([commit(owned, 2, b"v2", b"closed", closes=True)]) == [CommitStatus.OK]
    log = await redis.xrange(keys.session_log("phone-1", "acme", "s1"))
    assert [entry_id for entry_id, _ in log] == [b"1-0", b"2-0", b"3-0", b"4-0"]
    feed = await redis.xrange(keys.feed("phone-1", "acme"))
    assert [(hint[b"s"], hint[b"n"], hint[b"e"], hint[b"m"]) for _, hint in feed] == [
        (b"s1", b"1", b"1", b"opened"),
        (b"s1", b"2", b"1", b"v1"),
        (b"s1", b"3", b"1", b"v2"),
        (b"s1", b"4", b"1", b"closed"),
    ]


async def test_the_same_commit_twice_appends_once(redis: Redis, store: SessionStore) -> None:
    owned = await opened(store)
    once = commit(owned, 1, b"v1")
    assert await store.commit([once, once]) == [CommitStatus.OK, CommitStatus.DONE]
    assert await read_log(redis, CONTRACT, 1) == [b"v1"]


async def test_a_batch_that_is_repeated_because_its_answer_was_lost_was_made_whole(
    redis: Redis, store: SessionStore
) -> None:
    owned = await opened(store)
    batch = [commit(owned, 1, b"v1"), commit(owned, 2, b"v2"), commit(owned, 3, b"v3", b"closed", closes=True)]
    assert await store.commit(batch) == [CommitStatus.OK] * 3
    assert await store.commit(batch) == [CommitStatus.DONE] * 3
    assert await read_log(redis, CONTRACT, 1) == [b"v1", b"v2", b"v3", b"closed"]


async def test_many_that_commit_at_once_commit_once(redis: Redis, store: SessionStore) -> None:
    owned = await opened(store)
    tries = [store.commit([replace(commit(owned, 1, b"v"), length=number)]) for number in range(20)]
    statuses = [status for (status,) in await asyncio.gather(*tries)]
    assert statuses.count(CommitStatus.OK) == 1
    assert len(await read_log(redis, CONTRACT, 1)) == 1


@pytest.mark.parametrize("changed", [{"epoch": 2}, {"owner": "somebody-else"}])
async def test_whoever_does_not_own_the_session_is_fenced(
    redis: Redis, store: SessionStore, changed: dict[str, object]
) -> None:
    owned = replace(await opened(store), **changed)  # type: ignore[arg-type]
    assert await store.commit([commit(owned, 1, b"v1")]) == [CommitStatus.FENCED]
    assert await read_log(redis, CONTRACT, 1) == []


async def test_nothing_is_created_for_a_session_that_is_closed_or_never_was(redis: Redis, store: SessionStore) -> None:
    owned = await opened(store)
    await store.commit([commit(owned, 1, b"v1", closes=True)])
    assert await store.commit([commit(owned, 2, b"v2")]) == [CommitStatus.GONE]
    other = Owned(replace(CONTRACT, session="s2"), 1, "x")
    assert await store.commit([commit(other, 1, b"v1")]) == [CommitStatus.GONE]
    assert await redis.exists(*other.keys[:2]) == 0


async def test_one_bad_commit_in_a_batch_spoils_no_other(store: SessionStore) -> None:
    owned, other = await opened(store), await opened(store, replace(CONTRACT, session="s2"))
    bad = replace(commit(owned, 1, b"x"), expected_length=99)
    assert await store.commit([bad, commit(other, 1, b"y")]) == [CommitStatus.BEHIND, CommitStatus.OK]


async def test_a_refusal_is_a_log_that_is_closed_at_once(redis: Redis, store: SessionStore) -> None:
    await store.refuse(CONTRACT, answer=b"error", request=b"open")
    assert await read_log(redis, CONTRACT, 0) == [b"error"]
    assert await store.open(CONTRACT, length=3, digest=b"d", answer=b"o", request=b"open") is None


async def test_logs_and_heads_do_not_stay_for_ever(redis: Redis, store: SessionStore) -> None:
    owned = await opened(store)
    for key in owned.keys[:3]:  # what was used is known for longer
        assert 0 < await redis.pttl(key) <= 60_000


async def test_scripts_are_loaded_again_after_the_server_forgot_them(redis: Redis, store: SessionStore) -> None:
    owned = await opened(store)
    await redis.script_flush()
    assert await store.commit([commit(owned, 1, b"v1"), commit(owned, 2, b"v2")]) == [CommitStatus.OK] * 2
    assert await read_log(redis, CONTRACT, 1) == [b"v1", b"v2"]
