"""Batches on a real Redis: each line is done once, whoever claims, dies, comes late or cancels."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.batches import Batch, Status, fresh_batch_id
from dsdq.bus.batches import MOST_ACTIVE, BatchStore, Claim, Entry
from dsdq.bus.files import FileBounds, FileStore
from dsdq.errors import BusyError, ConfigError

LONG_MS = 60_000
DONE = Entry(completed=True, text=b"first", costs={"prompt_tokens": 2, "completion_tokens": 3})


@pytest.fixture
def store(redis: Redis) -> BatchStore:
    return BatchStore(redis, 60_000)


async def begun(redis: Redis, store: BatchStore, lines: int, tenant: str = "acme") -> Batch:
    async def content() -> AsyncIterator[bytes]:
        yield b"x"

    files = FileStore(redis, FileBounds(1 << 20, 1 << 20, 60_000))
    info = await files.add(tenant, content(), filename="f", purpose="batch")
    batch = await store.create(tenant, input_file_id=info.id, endpoint="/v1/completions")
    if lines:
        await store.add_lines(tenant, batch.id, [(n, "good", b"%d" % n) for n in range(1, lines + 1)])
        await store.move(tenant, batch.id, Status.IN_PROGRESS, [Status.VALIDATING])
    return batch


async def lapse(redis: Redis, tenant: str = "acme") -> None:
    """Let the leases of all lines lapse."""
    for member in await redis.zrange(keys.line_leases(tenant), 0, -1):
        await redis.zadd(keys.line_leases(tenant), {member: 1})


# Making one


async def test_a_batch_needs_a_file_that_its_tenant_has(redis: Redis, store: BatchStore) -> None:
    batch = await begun(redis, store, 0)
    assert batch.status is Status.VALIDATING
    assert await store.tenants() == ["acme"]
    with pytest.raises(ConfigError, match="expected a file of tenant globex"):
        await store.create("globex", input_file_id=batch.input_file_id, endpoint="/v1/completions")
    with pytest.raises(ConfigError, match="does not have"):
        await store.get("globex", batch.id)
    with pytest.raises(ConfigError, match="does not have"):
        await store.cancel("acme", fresh_batch_id())


async def test_a_tenant_has_so_many_active_ones_and_others_are_told_to_wait(redis: Redis, store: BatchStore) -> None:
    first = await begun(redis, store, 0)
    for _ in range(MOST_ACTIVE - 1):
        await store.create("acme", input_file_id=first.input_file_id, endpoint="/v1/completions")
    with pytest.raises(BusyError):
        await store.create("acme", input_file_id=first.input_file_id, endpoint="/v1/completions")
    await store.move("acme", first.id, Status.FAILED, [Status.VALIDATING])
    await store.create("acme", input_file_id=first.input_file_id, endpoint="/v1/completions")


async def test_batches_are_listed_newest_first_page_by_page(redis: Redis, store: BatchStore) -> None:
    made = []
    for _ in range(5):
        made.append((await begun(redis, store, 1)).id)
        await asyncio.sleep(0.002)  # Redis tells them apart by milliseconds
    newest = await store.newest("acme", limit=2)
    assert [one.id for one in newest] == [made[4], made[3]]
    rest = await store.newest("acme", after=newest[-1].id)
    assert [one.id for one in rest] == [made[2], made[1], made[0]]
    assert await store.newest("globex") == []


async def test_lines_that_are_added_again_are_there_once(redis: Redis, store: BatchStore) -> None:
    batch = await begun(redis, store, 0)
    lines = [(1, "good", b"1"), (2, "bad", b"why"), (4, "good", b"4")]
    assert await store.add_lines("acme", batch.id, lines[:2])  # type: ignore[arg-type]
    for _ in range(2):
        assert await store.add_lines("acme", batch.id, lines)  # type: ignore[arg-type]
    found = await store.get("acme", batch.id)
    assert (found.total, found.failed, found.completed) == (3, 1, 0)
    await store.move("acme", batch.id, Status.IN_PROGRESS, [Status.VALIDATING])
    assert not await store.add_lines("acme", batch.id, [(5, "good", b"late")])
    assert [one.line for one in await store.claim("acme", "me", 10, LONG_MS)] == [1, 4]


# Doing the lines


async def test_no_line_is_claimed_before_its_batch_is_prepared(redis: Redis, store: BatchStore) -> None:
    batch = await begun(redis, store, 0)
    await store.add_lines("acme", batch.id, [(1, "good", b"1")])
    assert await store.claim("acme", "me", 10, LONG_MS) == []


async def test_claimers_at_once_share_the_lines_and_the_oldest_batch_goes_first(
    redis: Redis, store: BatchStore
) -> None:
    first = await begun(redis, store, 60)
    await asyncio.sleep(0.002)
    await begun(redis, store, 60)
    claims = await asyncio.gather(*(store.claim("acme", f"w{n}", 7, LONG_MS) for n in range(10)))
    assert [len(one) for one in claims] == [7] * 10
    names = Counter(claim.member for one in claims for claim in one)
    assert set(names.values()) == {1}
    assert sum(name.startswith(first.id) for name in names) == 60


async def test_only_the_first_result_of_a_line_counts_however_many_bring_one(redis: Redis, store: BatchStore) -> None:
    batch = await begun(redis, store, 20)
    claims = await store.claim("acme", "me", 20, LONG_MS)
    entries = [Entry(completed=n % 2 == 0, text=b"%d" % n, costs={"completion_tokens": 5}) for n in range(6)]
    jobs = [store.finish(claim, entry) for claim in claims for entry in entries]
    assert sum(await asyncio.gather(*jobs)) == 20
    found = await store.get("acme", batch.id)
    assert found.completed + found.failed == found.total == 20
    assert found.sums["completion_tokens"] == 100
    assert found.status is Status.FINALIZING
    results = await store.entries("acme", batch.id, "results", range(1, 21))
    errors = await store.entries("acme", batch.id, "errors", range(1, 21))
    assert all((one is None) is not (other is None) for one, other in zip(results, errors, strict=True))
    assert await redis.zcard(keys.line_leases("acme")) == await redis.hlen(keys.line_owners("acme")) == 0


async def test_a_line_whose_lease_lapsed_is_claimed_again_and_the_late_result_still_counts_if_it_is_first(
    redis: Redis, store: BatchStore
) -> None:
    await begun(redis, store, 1)
    (late,) = await store.claim("acme", "dead", 5, LONG_MS)
    assert await store.claim("acme", "heir", 5, LONG_MS) == []
    await lapse(redis)
    (outlook,) = await store.look(["acme"])
    assert (outlook.waiting, outlook.running) == (1, 0)
    (again,) = await store.claim("acme", "heir", 5, LONG_MS)
    assert (again.line, again.tries) == (late.line, 1)
    assert await store.renew("dead", {"acme": [late.member]}, LONG_MS) == {("acme", late.member)}
    assert await store.renew("heir", {"acme": [again.member]}, LONG_MS) == set()
    assert await store.finish(late, DONE)
    assert not await store.finish(again, DONE)


async def test_a_result_of_a_line_that_waits_again_takes_it_off_the_list(redis: Redis, store: BatchStore) -> None:
    await begun(redis, store, 2)
    one, _ = await store.claim("acme", "me", 2, LONG_MS)
    await store.release("acme", "me", [one.member])
    assert await store.finish(one, DONE)
    assert await store.claim("acme", "me", 2, LONG_MS) == []


async def test_a_renewed_lease_does_not_lapse_and_what_is_given_back_is_there_at_once(
    redis: Redis, store: BatchStore
) -> None:
    await begun(redis, store, 2)
    claims = await store.claim("acme", "me", 2, LONG_MS)
    await lapse(redis)
    assert await store.renew("me", {"acme": [one.member for one in claims], "globex": []}, LONG_MS) == set()
    assert await store.claim("acme", "other", 2, LONG_MS) == []
    await store.release("acme", "other", [claims[0].member])
    assert await store.claim("acme", "other", 2, LONG_MS) == []
    await store.release("acme", "me", [claims[0].member])
    (again,) = await store.claim("acme", "other", 2, LONG_MS)
    assert (again.line, again.tries) == (claims[0].line, 0)


# Ending


async def test_a_cancelled_batch_stops_what_runs_and_keeps_what_is_finished(redis: Redis, store: BatchStore) -> None:
    batch = await begun(redis, store, 3)
    done, running = await store.claim("acme", "me", 2, LONG_MS)
    assert await store.finish(done, DONE)
    assert (await store.cancel("acme", batch.id)).status is Status.CANCELLING
    assert (await store.cancel("acme", batch.id)).status is Status.CANCELLING
    assert await store.claim("acme", "me", 2, LONG_MS) == []
    (outlook,) = await store.look(["acme"])
    assert [(one.status, one.running) for one in outlook.batches] == [(Status.CANCELLING, 1)]
    assert await store.renew("me", {"acme": [running.member]}, LONG_MS) == {("acme", running.member)}
    (outlook,) = await store.look(["acme"])
    assert [one.running for one in outlook.batches] == [0]
    assert await store.freeze("acme", batch.id)
    assert not await store.finish(running, DONE)
    assert (await store.get("acme", batch.id)).completed == 1


async def test_a_batch_whose_window_is_over_is_seen_and_not_claimed(redis: Redis, store: BatchStore) -> None:
    batch = await begun(redis, store, 3)
    await redis.hset(keys.batch("acme", batch.id), "deadline_ms", 1)
    assert await store.claim("acme", "me", 2, LONG_MS) == []
    (outlook,) = await store.look(["acme"])
    assert outlook.waiting == 0
    assert [one.over for one in outlook.batches] == [True]


async def test_a_batch_that_has_ended_keeps_what_is_known_of_it_for_a_while_and_nothing_else(
    redis: Redis, store: BatchStore
) -> None:
    batch = await begun(redis, store, 1)
    (claim,) = await store.claim("acme", "me", 2, LONG_MS)
    await store.finish(claim, DONE)
    assert await store.freeze("acme", batch.id)
    assert await store.move("acme", batch.id, Status.COMPLETED, [Status.FINALIZING], {"output_file_id": "file-x"})
    assert not await store.move("acme", batch.id, Status.COMPLETED, [Status.FINALIZING])
    assert not await store.freeze("acme", batch.id)
    assert (await store.cancel("acme", batch.id)).status is Status.COMPLETED
    place = keys.batch("acme", batch.id)
    assert await redis.keys(f"{place.replace('{', '?').replace('}', '?')}*") == [place.encode()]
    assert 0 < await redis.pttl(place) <= 60_000
    assert (await store.look(["acme"]))[0].batches == ()


async def test_one_at_a_time_cares_for_a_batch(redis: Redis, store: BatchStore) -> None:
    batch = await begun(redis, store, 1)
    assert await store.hold("acme", batch.id, "me", LONG_MS)
    assert await store.hold("acme", batch.id, "me", LONG_MS)
    assert not await store.hold("acme", batch.id, "other", LONG_MS)
    await store.let_go("acme", batch.id, "other")
    assert not await store.hold("acme", batch.id, "other", LONG_MS)
    await store.let_go("acme", batch.id, "me")
    assert await store.hold("acme", batch.id, "other", LONG_MS)


def test_a_claim_has_a_name_among_leases() -> None:
    assert Claim("acme", "batch_x", "/v1/completions", 3, 0, b"").member == "batch_x/3"
