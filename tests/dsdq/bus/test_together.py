"""Calls of many tasks on one client: few round trips, each its own answer or error."""

from __future__ import annotations

import asyncio
import random

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from dsdq import keys
from dsdq.bus import scripts, together
from dsdq.bus.connection import open_redis
from dsdq.bus.dead import DeadLetters
from dsdq.bus.inbox import Bounds, Inbox
from dsdq.bus.publishing import publish
from dsdq.tasks import end
from dsdq.testing.proxy import FaultProxy, Faults, Line

SIZE, STATE = keys.inbox_bytes("w1", "acme"), keys.worker_state("w1")
INBOX = keys.inbox("w1", "acme")


@pytest.fixture
async def inbox(redis: Redis) -> Inbox:
    opened = Inbox(redis, "w1", ["acme"], DeadLetters(redis))
    await opened.open(Bounds(entries=1000, kept=1, bytes_=1 << 20))
    return opened


async def until_arrived(inbox: Inbox, payloads: set[bytes]) -> None:
    arrived = set[bytes]()
    async with asyncio.timeout(30):
        while not payloads <= arrived:
            arrived |= {entry.payload for entry in await inbox.read(count=100, block_ms=10)}


async def test_hundreds_that_publish_at_once_share_a_connection_and_nothing_is_lost(redis: Redis, inbox: Inbox) -> None:
    before = (await redis.info("clients"))["connected_clients"]
    await asyncio.gather(*(publish(redis, "w1", "acme", b"%d" % number) for number in range(300)))
    assert (await redis.info("clients"))["connected_clients"] <= before + 1
    entries = await inbox.read(count=1000, block_ms=1)
    assert sorted(int(entry.payload) for entry in entries) == list(range(300))


@pytest.mark.usefixtures("inbox")
async def test_each_call_gets_its_own_answer_and_one_that_fails_fails_alone(redis: Redis) -> None:
    text = keys.inbox("w1", "text")
    await redis.set(text, "x")
    places = [INBOX if number % 3 else text for number in range(30)]
    answers = await asyncio.gather(
        *(together.call(redis, "publish", [place, SIZE, STATE], [b"x", "", ""]) for place in places),
        return_exceptions=True,
    )
    for place, answer in zip(places, answers, strict=True):
        assert isinstance(answer, RedisError) if place == text else answer[0] == b"OK"


async def test_a_call_that_is_given_up_leaves_the_others_to_be_answered(redis: Redis, inbox: Inbox) -> None:
    tasks = [asyncio.create_task(publish(redis, "w1", "acme", b"%d" % number)) for number in range(20)]
    await asyncio.sleep(0)
    for task in (tasks[0], tasks[5]):  # the one under way, and one that waits
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [number for number, one in enumerate(ended) if isinstance(one, asyncio.CancelledError)] == [0, 5]
    arrived = {int(entry.payload) for entry in await inbox.read(count=100, block_ms=1)}
    assert arrived >= set(range(20)) - {0, 5}
    await publish(redis, "w1", "acme", b"later")


async def test_nobody_waits_for_an_answer_from_far_away(redis_url: str, inbox: Inbox) -> None:
    """Each call comes while the one before is on its way; the last arrives before the first is answered."""
    async with FaultProxy(redis_url, random.Random(1)) as proxy:
        far = open_redis(proxy.url)
        await asyncio.gather(*(far.ping() for _ in range(4)))  # connections: to make one takes several round trips
        await publish(far, "w1", "acme", b"0")
        proxy.set_faults(Faults(down=Line(delay_ms=60_000)))
        calls = []
        for number in range(1, 4):
            calls.append(asyncio.create_task(publish(far, "w1", "acme", b"%d" % number)))
            await until_arrived(inbox, {b"%d" % number})
        assert not any(call.done() for call in calls)
        proxy.set_faults(Faults())
        proxy.cut()  # and so all are sent again
        await asyncio.gather(*calls)
        await far.aclose()


@pytest.mark.parametrize("given_up", [True, False])
async def test_a_client_that_closes_ends_what_is_under_way(redis_url: str, inbox: Inbox, *, given_up: bool) -> None:
    async with FaultProxy(redis_url, random.Random(1)) as proxy:
        far = open_redis(proxy.url)
        await asyncio.gather(*(far.ping() for _ in range(4)))  # connections: the proxy has tasks for each
        await publish(far, "w1", "acme", b"0")
        before = asyncio.all_tasks()
        proxy.set_faults(Faults(down=Line(delay_ms=60_000)))
        first, *others = [asyncio.create_task(publish(far, "w1", "acme", b"%d" % number)) for number in (1, 2, 3)]
        await until_arrived(inbox, {b"0", b"1", b"2", b"3"})
        await end(first, *(others if given_up else ()))
        await far.aclose()
        await asyncio.wait(others, timeout=30)
        assert all(one.cancelled() for one in others)
        assert not asyncio.all_tasks() - before


async def test_all_that_wait_for_a_server_that_is_not_there_are_told() -> None:
    nowhere = open_redis("redis://127.0.0.1:1/0")
    calls = (together.call(nowhere, "publish", [INBOX, SIZE, STATE], [b"x", "", ""]) for _ in range(5))
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, RedisError) for one in ended)
    await nowhere.aclose()


async def test_a_device_that_may_not_bring_scripts_publishes_together_too(redis: Redis, inbox: Inbox) -> None:
    await scripts.load(redis, "publish")
    rules = "~{w.*}:* +evalsha +hmget +exists +xlen +xadd +get +incrby"
    await redis.execute_command("ACL SETUSER", "phone", "on", ">x", *rules.split())
    options = redis.connection_pool.connection_kwargs
    phone = Redis(host=options["host"], port=options["port"], username="phone", password="x")  # noqa: S106
    try:
        await asyncio.gather(*(publish(phone, "w1", "acme", b"x") for _ in range(10)))
    finally:
        await phone.aclose()
        await redis.execute_command("ACL DELUSER", "phone")
    assert len(await inbox.read(count=100, block_ms=1)) == 10
