"""What a client and a real Redis see through the proxy."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import chain, repeat
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from dsdq.bus.embedded import EmbeddedRedis
from dsdq.testing.proxy import NO_FAULTS, Fault, FaultProxy, Faults, Line

Through = Callable[..., AbstractAsyncContextManager[tuple[FaultProxy, Redis]]]


@asynccontextmanager
async def client_of(proxy: FaultProxy) -> AsyncIterator[Redis]:
    client = Redis.from_url(proxy.url, socket_timeout=20, max_connections=1)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
def through(redis_url: str) -> Through:
    """Return a context manager that gives a proxy in front of the server, and a client that never tries twice."""

    @asynccontextmanager
    async def run(faults: Faults = NO_FAULTS, seed: int = 7) -> AsyncIterator[tuple[FaultProxy, Redis]]:
        async with FaultProxy(redis_url, random.Random(seed), faults) as proxy, client_of(proxy) as client:
            yield proxy, client

    return run


async def test_without_faults_everything_comes_through(through: Through) -> None:
    async with through() as (proxy, client):
        large = bytes(range(256)) * 4_000
        await client.set("a", large)
        assert await client.get("a") == large
        pipeline = client.pipeline(transaction=False)
        for number in range(500):
            pipeline.rpush("list", number)
        assert await pipeline.execute() == list(range(1, 501))
        assert not proxy.injected


async def test_what_crosses_is_counted_to_the_byte(through: Through) -> None:
    async with through() as (proxy, client):
        await client.ping()  # connecting says more than this
        up, down = proxy.bytes_up, proxy.bytes_down
        await client.set("a", b"12345")
        assert proxy.bytes_up - up == len(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\n12345\r\n")
        assert proxy.bytes_down - down == len(b"+OK\r\n")


async def test_a_server_on_a_unix_socket_is_reached_too() -> None:
    async with EmbeddedRedis() as server, FaultProxy(server.url, random.Random(1)) as proxy, client_of(proxy) as client:
        assert await client.ping()


async def test_a_lost_reply_is_that_of_a_write_that_was_done(through: Through, redis: Redis) -> None:
    async with through() as (proxy, client):
        await client.ping()
        proxy.set_faults(Faults(lose_reply=1))
        with pytest.raises(RedisConnectionError):
            await client.rpush("list", "x")
        assert await redis.llen("list") == 1
        assert proxy.injected == {Fault.LOST_REPLY: 1}


async def test_nothing_arrives_that_comes_behind_a_lost_reply(redis_url: str) -> None:
    ping = b"*1\r\n$4\r\nPING\r\n"
    async with FaultProxy(redis_url, random.Random(1)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port)
        writer.write(ping)
        assert await reader.readline() == b"+PONG\r\n"
        (connection,) = proxy.connections
        connection._rng = Mock(random=Mock(side_effect=chain((0.9, 0.1), repeat(0.9))))
        connection.faults = Faults(lose_reply=0.5)
        writer.write(3 * ping)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert proxy.injected == {Fault.LOST_REPLY: 1}
        writer.close()


async def test_a_lost_request_never_arrives_and_the_client_learns_it(through: Through, redis: Redis) -> None:
    async with through() as (proxy, client):
        await client.ping()
        proxy.set_faults(Faults(lose_request=1))
        with pytest.raises(RedisConnectionError):
            await client.rpush("list", "x")
        assert await redis.llen("list") == 0
        assert proxy.injected == {Fault.LOST_REQUEST: 1}


async def test_a_duplicate_is_done_twice_and_answered_once(through: Through, redis: Redis) -> None:
    async with through() as (proxy, client):
        await client.ping()
        proxy.set_faults(Faults(duplicate=1))
        first = await client.xadd("stream", {"m": "x"})
        assert await client.set("other", 1)  # not among the commands that may come twice
        assert await client.get("other") == b"1"
        entries = await redis.xrange("stream")
        assert [fields for _, fields in entries] == [{b"m": b"x"}] * 2
        assert entries[0][0] == first
        assert proxy.injected[Fault.DUPLICATE] == 1


async def test_a_pipeline_stays_in_step_when_parts_of_it_come_twice(through: Through, redis: Redis) -> None:
    async with through() as (proxy, client):
        await client.ping()
        proxy.set_faults(Faults(duplicate=0.5))
        pipeline = client.pipeline(transaction=False)
        for number in range(100):
            pipeline.xadd("stream", {"m": number})
            pipeline.echo(str(number))
        answers = await pipeline.execute()
        assert answers[1::2] == [str(number).encode() for number in range(100)]
        assert await redis.xlen("stream") == 100 + proxy.injected[Fault.DUPLICATE] > 100


async def test_order_is_kept_however_much_delays_differ(through: Through) -> None:
    async with through(Faults(up=Line(1, 20), down=Line(1, 20, bytes_per_s=1e6))) as (_, client):
        pipeline = client.pipeline(transaction=False)
        for number in range(50):
            pipeline.rpush("list", number)
        assert await pipeline.execute() == list(range(1, 51))


async def test_a_cut_ends_the_connection_and_the_next_one_works(through: Through) -> None:
    async with through() as (proxy, client):
        await client.ping()
        proxy.cut()
        with pytest.raises(RedisConnectionError):
            await client.ping()
        assert await client.ping()
        assert proxy.injected == {Fault.CUT: 1}


async def test_what_was_asked_during_a_stall_waits_for_its_end(through: Through, redis: Redis) -> None:
    async with through() as (proxy, client):
        await client.ping()
        proxy.stall(0.3)
        asked = asyncio.get_running_loop().time()
        await client.rpush("list", "x")
        assert asyncio.get_running_loop().time() - asked >= 0.29  # held by the proxy's own clock, not by the machine
        assert await redis.llen("list") == 1


async def test_no_server_is_a_connection_that_ends_at_once() -> None:
    async with FaultProxy("redis://127.0.0.1:1/0", random.Random(1)) as proxy, client_of(proxy) as client:
        with pytest.raises(RedisConnectionError):
            await client.ping()
        assert proxy.injected[Fault.REFUSED] >= 1


async def test_equal_seeds_strike_the_same_requests(through: Through, redis: Redis) -> None:
    struck = []
    for _ in range(2):
        await redis.flushall()
        async with through(Faults(duplicate=0.3)) as (_, client):
            for number in range(40):
                await client.xadd("stream", {"m": number})
            struck.append([fields[b"m"] for _, fields in await redis.xrange("stream")])
    assert struck[0] == struck[1]


async def test_requests_are_shown_to_who_asks(redis_url: str) -> None:
    seen: list[list[bytes]] = []
    async with FaultProxy(redis_url, random.Random(1), on_request=seen.append) as proxy, client_of(proxy) as client:
        await client.set("k", "v")
    assert seen[-1] == [b"SET", b"k", b"v"]


async def test_the_block_leaves_no_connection_open(through: Through, redis: Redis) -> None:
    before = len(await redis.client_list())
    async with through() as (_, client):
        await client.ping()
        assert len(await redis.client_list()) == before + 1
    async with asyncio.timeout(30):
        while len(await redis.client_list()) > before:
            await asyncio.sleep(0.01)


async def test_the_block_ends_a_client_for_which_no_server_has_answered_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    connecting = asyncio.Event()

    async def connect(_: FaultProxy) -> None:
        connecting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(FaultProxy, "_connect", connect)
    async with FaultProxy("redis://127.0.0.1:1/0", random.Random(1)) as proxy:
        reader, writer = await asyncio.open_connection(
            *proxy.url.removeprefix("redis://").removesuffix("/0").split(":")
        )
        await connecting.wait()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
