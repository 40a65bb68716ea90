"""Scripts by name: known to the server or not, alone or many at once, in order."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.dead import DeadLetters
from dsdq.bus.inbox import Bounds, Inbox
from dsdq.bus.publishing import publish
from dsdq.errors import RedisUnavailableError
from dsdq.testing.servers import client

SIZE, STATE = keys.inbox_bytes("w1", "acme"), keys.worker_state("w1")
INBOX = keys.inbox("w1", "acme")

CALLED_BY_DEVICES = {
    "594d2a83c77ba5d149f57ac070cb542bae2863b9",  # publish.lua, 0.1
}
"""Hashes of scripts. One that goes leaves the devices of its release without a way in."""


@pytest.fixture
async def inbox(redis: Redis) -> Inbox:
    opened = Inbox(redis, "w1", ["acme"], DeadLetters(redis))
    await opened.open(Bounds(entries=1000, kept=1, bytes_=1 << 20))
    await redis.script_flush()
    return opened


def calls(count: int) -> list[scripts.Call]:
    return [([INBOX, SIZE, STATE], [b"%d" % number, "", ""]) for number in range(count)]


async def test_calls_on_the_same_keys_are_run_in_order_though_the_script_is_new(redis: Redis, inbox: Inbox) -> None:
    answers = await scripts.call_many(redis, "publish", calls(100))
    assert [answer[0] for answer in answers] == [b"OK"] * 100
    assert [entry.payload for entry in await inbox.read(1000, 1)] == [b"%d" % number for number in range(100)]


@pytest.mark.usefixtures("inbox")
async def test_the_text_goes_over_the_wire_only_where_order_needs_it(redis: Redis) -> None:
    others = [([keys.inbox("w1", f"tenant-{number}"), SIZE, STATE], [b"x", "", ""]) for number in range(5)]
    assert scripts._come_again([*others, *calls(3), *others[:1]]) == [0, 5]
    assert scripts._come_again(others) == []
    await redis.config_resetstat()
    for _ in range(3):
        await scripts.call(redis, "publish", *calls(1)[0])
    stats = await redis.info("commandstats")
    assert stats["cmdstat_eval"]["calls"] == 1  # the first time, when the server did not know the script


async def test_one_call_that_fails_leaves_the_others_be(redis: Redis, inbox: Inbox) -> None:
    text = keys.inbox("w1", "text")
    await redis.set(text, "x")
    bad = ([text, SIZE, STATE], [b"x", "", ""])
    with pytest.raises(Exception, match="WRONGTYPE"):
        await scripts.call_many(redis, "publish", [*calls(1), bad, *calls(2)])
    assert len(await inbox.read(10, 1)) == 3


@pytest.mark.usefixtures("inbox")
async def test_a_device_that_may_not_bring_scripts_uses_those_that_a_verifier_brought(redis: Redis) -> None:
    rules = "~{w.*}:* +evalsha +hmget +exists +xlen +xadd +get +incrby"
    await redis.execute_command("ACL SETUSER", "phone", "on", ">x", *rules.split())
    await scripts.load(redis)
    place = redis.connection_pool.connection_kwargs
    async with client(f"redis://phone:x@{place['host']}:{place['port']}/0") as phone:
        await publish(phone, "w1", "acme", b"one")
        await redis.script_flush()
        with pytest.raises(RedisUnavailableError, match="a verifier brings them"):
            await publish(phone, "w1", "acme", b"two")
    await redis.execute_command("ACL DELUSER", "phone")


def test_verifiers_bring_the_script_that_devices_call_by_hash_of_this_release_and_the_one_before() -> None:
    brought = {sha1(file.read_bytes()).hexdigest() for file in files("dsdq.bus").joinpath("lua").iterdir()}  # noqa: S324
    assert brought >= CALLED_BY_DEVICES
