from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from dsdq.bus.clients import RETRIES, Tcp
from dsdq.bus.connection import check_server, open_redis, translated
from dsdq.errors import ConfigError, DeniedError, RedisUnavailableError
from dsdq.testing.resp import Splitter

LIMIT_S = 30


@pytest.mark.parametrize("url", ["", "http://x", "127.0.0.1:6379", "redis://h:port/0"])
def test_what_is_no_redis_url_is_refused_with_what_was_expected(url: str) -> None:
    with pytest.raises(ConfigError, match="expected a Redis URL"):
        open_redis(url)


async def test_no_server_is_said_in_the_projects_own_error() -> None:
    redis = open_redis("redis://127.0.0.1:1/0")
    with pytest.raises(RedisUnavailableError, match="127\\.0\\.0\\.1:1"):
        await check_server(redis)
    await redis.aclose()


async def test_the_embedded_server_is_fit_for_use(redis: Redis) -> None:
    await check_server(redis)


@pytest.mark.parametrize(
    ("setting", "bad", "good"), [("maxmemory-policy", "allkeys-lru", "noeviction"), ("appendonly", "no", "yes")]
)
async def test_a_server_that_would_lose_data_is_refused_unless_that_is_allowed(
    redis: Redis, setting: str, bad: str, good: str
) -> None:
    await redis.config_set(setting, bad)
    try:
        with pytest.raises(DeniedError, match=f"{setting} {good}"):
            await check_server(redis)
        await check_server(redis, allow_unsafe=True)
    finally:
        await redis.config_set(setting, good)
        while (await redis.info("persistence"))["aof_rewrite_in_progress"]:  # Redis 6.2 does not end before
            await asyncio.sleep(0.01)


async def test_errors_of_the_library_are_translated(redis: Redis) -> None:
    await redis.set("text", "x")
    with pytest.raises(DeniedError, match="WRONGTYPE"), translated():
        await redis.xlen("text")


async def test_a_connection_that_is_being_made_is_not_asked_whether_it_lives(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    client = open_redis(redis_url)
    connection = client.connection_pool.make_connection()

    async def ask() -> None:
        asked.append("PING")

    monkeypatch.setattr(connection, "_send_ping", ask)
    connection.next_health_check = 0.0  # long due, as after half a minute without a word
    await connection.connect()
    assert asked == []
    await connection.disconnect()
    await client.aclose()


async def test_a_connection_that_breaks_before_its_first_answer_is_made_again() -> None:
    broken, ended = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        splitter = Splitter()
        while data := await reader.read(1 << 16):
            if broken < RETRIES:
                broken += 1
                writer.transport.abort()
                return
            writer.writelines(b"+OK\r\n" for _ in splitter.feed(data))
        writer.close()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        client = open_redis(f"redis://{host}:{port}/0")
        with translated():
            assert await client.set("name", "value")
        await client.aclose()
        await ended.wait()
    assert broken == RETRIES


async def test_no_command_finds_a_connection_open_whose_database_was_refused(redis_url: str) -> None:
    client = open_redis(redis_url.replace("/0", "/99"))
    for _ in range(2):
        with pytest.raises(DeniedError), translated():
            await client.set("name", "value")
    await client.aclose()


async def test_connections_are_made_at_the_same_time_and_nobody_waits_who_finds_a_free_one(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_redis(redis_url)
    await client.ping()  # leaves a free one
    together, make = asyncio.Barrier(4), Tcp._connect

    async def connect(self: Tcp) -> None:
        await together.wait()
        await make(self)

    monkeypatch.setattr(Tcp, "_connect", connect)
    async with asyncio.timeout(LIMIT_S):
        taken = await client.connection_pool.get_connection()
        three = [asyncio.create_task(client.ping()) for _ in range(3)]
        while together.n_waiting < 3:
            await asyncio.sleep(0)
        await client.connection_pool.release(taken)
        assert await client.ping()
        await together.wait()
        await asyncio.gather(*three)
    await client.aclose()


async def test_a_connection_that_could_not_be_made_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_redis("redis://127.0.0.1:1/0")
    monkeypatch.setattr(client.connection_pool, "max_connections", 1)
    for _ in range(2):
        with pytest.raises(RedisUnavailableError, match="127\\.0\\.0\\.1:1"), translated():
            await client.connection_pool.get_connection()
    await client.aclose()
