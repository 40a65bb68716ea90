"""One worker's lines on a real Redis: claimed by fair shares, stopped when they are no longer its own, given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.batches import Status
from dsdq.tasks import end
from producers.batch import desk as module
from producers.batch.answering import MOST_FAILURES
from producers.batch.desk import Desk
from tests.producers.batch.conftest import Echo, Shop, request_of


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    monkeypatch.setattr(module, "LOOK_S", 0.02)


@contextmanager
def beating(desk: Desk) -> Iterator[None]:
    task = asyncio.create_task(desk.beat())
    yield
    task.cancel()


@asynccontextmanager
async def running(*turns: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one) for one in turns]
    try:
        yield
    finally:
        await end(*tasks)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


async def test_a_turn_does_all_lines_and_ends(shop: Shop, echo: Echo) -> None:
    batch = await shop.prepared([request_of(f"{n}", prompt=f"{n}") for n in range(50)])
    await Desk(shop.batches, echo, 8).turn(4)
    assert echo.most_busy <= 4
    assert set(echo.began.values()) == {1}
    assert len(echo.began) == 50
    assert (await shop.batches.get("acme", batch.id)).status is Status.FINALIZING


async def test_turns_together_do_no_more_lines_at_once_than_the_worker_may(shop: Shop) -> None:
    echo = Echo(asyncio.Event())
    await shop.prepared([request_of(f"{n}", prompt=f"{n}") for n in range(50)])
    desk = Desk(shop.batches, echo, 6)
    async with running(*(desk.turn(4) for _ in range(3))):
        await until(lambda: echo.busy == 6)
        assert echo.held
        echo.held.set()
        await until(lambda: len(echo.began) == 50)
    assert echo.most_busy == 6


async def test_places_go_to_tenants_by_weight_and_to_none_that_is_shut(shop: Shop) -> None:
    echo = Echo(asyncio.Event())
    for tenant in ("a", "b", "c"):
        await shop.prepared([request_of(f"{n}", prompt=f"{n}") for n in range(20)], tenant)
    desk = Desk(shop.batches, echo, 8)
    desk.weights, desk.shut = {"a": 3.0}, {"c"}
    async with running(desk.turn(8)):
        await until(lambda: echo.busy == 8)
        assert [sum(one == tenant for one, _ in echo.began) for tenant in ("a", "b", "c")] == [6, 2, 0]


async def test_a_turn_with_room_left_finds_a_batch_that_comes_later(shop: Shop) -> None:
    echo = Echo(asyncio.Event())
    await shop.prepared([request_of("a", prompt="a")])
    async with running(Desk(shop.batches, echo, 8).turn(4)):
        await until(lambda: echo.busy == 1)
        await shop.prepared([request_of("b", prompt="b")])
        await until(lambda: echo.busy == 2)
        assert [prompt for _, prompt in echo.began] == ["a", "b"]


async def test_a_worker_that_stops_gives_its_lines_back_at_once(redis: Redis, shop: Shop) -> None:
    echo = Echo(asyncio.Event())
    await shop.prepared([request_of(f"{n}", prompt=f"{n}") for n in range(5)])
    desk = Desk(shop.batches, echo, 8)
    turn = asyncio.create_task(desk.turn(4))
    await until(lambda: echo.busy == 4)
    desk.stopping.set()
    await turn
    assert (echo.busy, echo.cancelled) == (0, 4)
    assert await redis.zcard(keys.line_leases("acme")) == 0
    claims = await shop.batches.claim("acme", "other", 9, 60_000)
    assert sorted((one.line, one.tries) for one in claims) == [(n, 0) for n in range(1, 6)]


async def test_lines_that_are_being_done_keep_their_lease(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_MS", 400)
    echo = Echo(asyncio.Event())
    await shop.prepared([request_of("a")])
    desk = Desk(shop.batches, echo, 8)
    with beating(desk):
        async with running(desk.turn(4)):
            await until(lambda: echo.busy == 1)
            for _ in range(30):
                assert await shop.batches.claim("acme", "other", 1, 60_000) == []
                await asyncio.sleep(0.02)


async def test_a_cancelled_batchs_lines_are_stopped(shop: Shop) -> None:
    echo = Echo(asyncio.Event())
    batch = await shop.prepared([request_of(f"{n}", prompt=f"{n}") for n in range(9)])
    desk = Desk(shop.batches, echo, 8)
    with beating(desk):
        async with running(desk.turn(4)):
            await until(lambda: echo.busy == 4)
            await shop.batches.cancel("acme", batch.id)
            await until(lambda: echo.cancelled == 4)
    (outlook,) = await shop.batches.look(["acme"])
    assert outlook.running == 0
    assert len(echo.began) == 4


async def test_a_line_that_ends_its_workers_is_given_up(redis: Redis, shop: Shop, echo: Echo) -> None:
    batch = await shop.prepared([request_of("poison"), request_of("fine")])
    place = f"{keys.batch('acme', batch.id)}:tries"
    await redis.hset(place, "1", MOST_FAILURES)
    await shop.batches.claim("acme", "dead", 1, 60_000)
    await redis.zadd(keys.line_leases("acme"), {f"{batch.id}/1": 1})
    await Desk(shop.batches, echo, 8).turn(4)
    ended = await shop.assembled(batch)
    assert [one["custom_id"] for one in await shop.entries(ended.output_file_id)] == ["fine"]
    (given_up,) = await shop.entries(ended.error_file_id)
    assert given_up["response"]["status_code"] == 500
    assert f"{MOST_FAILURES + 1} workers" in given_up["response"]["body"]["error"]["message"]


async def test_a_line_done_again_is_given_the_same_seed(shop: Shop, echo: Echo) -> None:
    batch = await shop.prepared([request_of("a"), request_of("b")])
    await Desk(shop.batches, echo, 8).turn(4)
    ended = await shop.assembled(batch)
    texts = [one["response"]["body"]["text"] for one in await shop.entries(ended.output_file_id)]
    assert len(set(texts)) == 2
