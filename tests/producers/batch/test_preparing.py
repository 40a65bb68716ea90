"""From a file to lines to do, and from what became of them to two files: on a real Redis, with a crash anywhere."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.batches import Status
from dsdq.bus.batches import Entry
from producers.batch import assembling, preparing
from producers.batch.assembling import assemble
from producers.batch.desk import expire
from producers.batch.lines import Request, entry_of
from producers.batch.preparing import prepare
from producers.batch.runner import Answer
from tests.producers.batch.conftest import Shop, request_of

MIXED = [request_of("a"), b"oops", request_of("b"), b"", request_of("a"), request_of("c") | {"url": "/v1/x"}]


class CrashError(Exception):
    pass


async def do(shop: Shop, count: int, status: int = 200) -> None:
    for claim in await shop.batches.claim("acme", "me", count, 60_000):
        entry = entry_of(claim, Request.unpack(claim.work), Answer(status, {"line": claim.line}))
        await shop.batches.finish(claim, entry)


# Preparing


async def test_good_lines_are_to_be_done_and_bad_ones_stop_nothing(shop: Shop) -> None:
    batch = await shop.prepared(MIXED)
    assert batch.status is Status.IN_PROGRESS
    assert (batch.total, batch.failed) == (5, 3)
    claims = await shop.batches.claim("acme", "me", 10, 60_000)
    assert [(claim.line, Request.unpack(claim.work).custom_id) for claim in claims] == [(1, "a"), (3, "b")]


@pytest.mark.parametrize("lines", [[], [b""], [b"", b"  "]])
async def test_an_empty_file_fails_its_batch(shop: Shop, lines: list[bytes]) -> None:
    batch = await shop.prepared(lines)
    assert batch.status is Status.FAILED
    assert batch.errors[0]["code"] == "empty_file"


async def test_a_file_of_too_many_lines_fails_its_batch(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "MOST_LINES", 2)
    batch = await shop.prepared([request_of("a"), request_of("b"), request_of("c")])
    assert batch.status is Status.FAILED
    assert batch.errors[0]["code"] == "too_many_tasks"
    assert await shop.batches.claim("acme", "me", 10, 60_000) == []


async def test_a_file_that_is_gone_fails_its_batch(shop: Shop) -> None:
    batch = await shop.hand_in([request_of("a")])
    await shop.files.delete("acme", batch.input_file_id)
    await prepare(shop.files, shop.batches, "acme", batch.id)
    assert (await shop.batches.get("acme", batch.id)).errors[0]["code"] == "invalid_file"


async def test_a_batch_of_bad_lines_alone_completes_with_an_error_file(shop: Shop) -> None:
    batch = await shop.prepared([b"oops"])
    assert batch.status is Status.FINALIZING
    ended = await shop.assembled(batch)
    assert (ended.status, ended.output_file_id) == (Status.COMPLETED, None)
    assert [one["error"]["code"] for one in await shop.entries(ended.error_file_id)] == ["invalid_json"]


@pytest.mark.parametrize("crash_at", [0, 1, 2])
async def test_a_crash_and_a_second_run_change_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    monkeypatch.setattr(preparing, "AT_ONCE", 2)
    batch, add_lines, calls = await shop.hand_in(MIXED), shop.batches.add_lines, 0

    async def crashing(*given: object) -> bool:
        nonlocal calls
        added = await add_lines(*given)  # type: ignore[arg-type]
        calls += 1
        if calls == crash_at + 1:
            raise CrashError
        return added

    monkeypatch.setattr(shop.batches, "add_lines", crashing)
    with pytest.raises(CrashError):
        await prepare(shop.files, shop.batches, "acme", batch.id)
    assert (await shop.batches.get("acme", batch.id)).status is Status.VALIDATING
    for _ in range(2):
        await prepare(shop.files, shop.batches, "acme", batch.id)
    found = await shop.batches.get("acme", batch.id)
    assert (found.total, found.failed) == (5, 3)
    assert [one.line for one in await shop.batches.claim("acme", "me", 10, 60_000)] == [1, 3]


async def test_two_who_prepare_at_once_come_to_the_same(shop: Shop) -> None:
    batch = await shop.hand_in([request_of(f"{n}") for n in range(500)])
    await asyncio.gather(*(prepare(shop.files, shop.batches, "acme", batch.id) for _ in range(3)))
    assert (await shop.batches.get("acme", batch.id)).total == 500
    assert len(await shop.batches.claim("acme", "me", 1000, 60_000)) == 500


# Assembling


async def test_both_files_are_in_the_order_of_the_input_whatever_the_order_of_the_work(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembling, "PAGE", 7)
    batch = await shop.prepared([request_of(f"{n}") if n % 5 else b"oops" for n in range(100)])
    for claim in reversed(await shop.batches.claim("acme", "me", 100, 60_000)):
        await shop.batches.finish(claim, entry_of(claim, Request.unpack(claim.work), Answer(200, {})))
    ended = await shop.assembled(batch)
    assert ended.status is Status.COMPLETED
    assert [one["custom_id"] for one in await shop.entries(ended.output_file_id)] == [
        f"{n}" for n in range(100) if n % 5
    ]
    assert [one["error"]["line"] for one in await shop.entries(ended.error_file_id)] == list(range(1, 101, 5))


async def test_a_crash_while_files_are_written_costs_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, move = await shop.prepared([request_of("a"), b"oops"]), shop.batches.move
    await do(shop, 5)

    async def crashing(tenant: str, batch_id: str, to: Status, *rest: object) -> bool:
        if to.ended:
            raise CrashError
        return await move(tenant, batch_id, to, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.batches, "move", crashing)
    with pytest.raises(CrashError):
        await assemble(shop.files, shop.batches, "acme", batch.id)
    monkeypatch.setattr(shop.batches, "move", move)
    ended = await shop.assembled(batch)
    assert [one["custom_id"] for one in await shop.entries(ended.output_file_id)] == ["a"]
    assert len(await shop.files.newest("acme")) == 3
    stored = await shop.files.stored_bytes("acme")
    assert await shop.assembled(batch) == ended
    assert await shop.files.stored_bytes("acme") == stored


async def test_two_who_assemble_at_once_come_to_the_same(shop: Shop) -> None:
    batch = await shop.prepared([request_of(f"{n}") for n in range(300)])
    await do(shop, 300)
    await asyncio.gather(
        *(assemble(shop.files, shop.batches, "acme", batch.id) for _ in range(3)), return_exceptions=True
    )
    ended = await shop.assembled(batch)
    assert [one["custom_id"] for one in await shop.entries(ended.output_file_id)] == [f"{n}" for n in range(300)]


async def test_of_a_cancelled_batch_what_is_finished_is_kept_and_the_rest_says_so(shop: Shop) -> None:
    batch = await shop.prepared([request_of("a"), request_of("b"), request_of("c")])
    await do(shop, 1)
    await shop.batches.cancel("acme", batch.id)
    ended = await shop.assembled(batch)
    assert ended.status is Status.CANCELLED
    assert [one["custom_id"] for one in await shop.entries(ended.output_file_id)] == ["a"]
    left = await shop.entries(ended.error_file_id)
    assert [(one["custom_id"], one["error"]["code"]) for one in left] == [
        ("b", "batch_cancelled"),
        ("c", "batch_cancelled"),
    ]


async def test_of_a_batch_whose_window_is_over_too(redis: Redis, shop: Shop) -> None:
    batch = await shop.prepared([request_of("a"), request_of("b")])
    (late,) = await shop.batches.claim("acme", "me", 1, 60_000)
    await redis.hset(keys.batch("acme", batch.id), "deadline_ms", 1)
    await expire(shop.batches, "acme", batch.id)
    assert not await shop.batches.finish(late, Entry(completed=True, text=b"late"))
    ended = await shop.assembled(batch)
    assert (ended.status, ended.output_file_id) == (Status.EXPIRED, None)
    assert [one["error"]["code"] for one in await shop.entries(ended.error_file_id)] == ["batch_expired"] * 2


async def test_a_refusal_stands_in_the_error_file_with_its_status(shop: Shop) -> None:
    batch = await shop.prepared([request_of("a")])
    await do(shop, 1, status=400)
    ended = await shop.assembled(batch)
    assert (ended.status, ended.completed, ended.failed) == (Status.COMPLETED, 0, 1)
    assert [one["response"]["status_code"] for one in await shop.entries(ended.error_file_id)] == [400]
