from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import Connection
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as LostError

from dsdq.bus.clients import Client, Tcp
from dsdq.bus.connection import open_redis
from dsdq.testing.resp import Splitter, arguments


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    client = open_redis(redis_url)
    yield client
    await client.aclose()


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "k"),
        ("SCRIPT LOAD", "return 1"),
        ("XADD", "k", "MAXLEN", "~", 10, "*", b"m", bytes(range(256))),
        ("SET", "schlüssel", "x" * 100_000),
        ("SET", "k", -1.5),
    ],
)
def test_a_command_has_the_bytes_that_redis_py_gives_it(command: Sequence[Any]) -> None:
    brisk, plain = Tcp(), Connection()
    assert b"".join(brisk.pack_command(*command)) == b"".join(plain.pack_command(*command))
    assert b"".join(brisk.pack_commands([command, command])) == b"".join(plain.pack_commands([command, command]))


async def test_every_command_of_a_pipeline_has_its_own_answer(client: Client) -> None:
    pipeline = client.pipeline(transaction=False)
    pipeline.set("a", 1)
    pipeline.xlen("a")
    pipeline.get("a")
    first, second, third = await pipeline.execute(raise_on_error=False)
    assert (first, third) == (True, b"1")
    assert isinstance(second, ResponseError)


async def test_commands_larger_than_any_buffer_come_whole(client: Client) -> None:
    large = b"x" * 8_000_000
    pipeline = client.pipeline(transaction=False)
    for number in range(3):
        pipeline.set(f"large{number}", large)
        pipeline.strlen(f"large{number}")
    assert await pipeline.execute() == [True, len(large)] * 3
    assert await client.get("large0") == large


async def test_a_connection_that_the_server_closed_is_not_used_again(client: Client, redis: Redis) -> None:
    assert await client.ping()
    (connection,) = client.connection_pool._available_connections
    await redis.client_kill_filter(_id=await client.client_id(), skipme=False)
    async with asyncio.timeout(30):
        while not await connection.can_read_destructive():
            await asyncio.sleep(0.005)
    assert await client.ping()


async def test_an_answer_that_nobody_waits_for_any_more_answers_no_other_question(client: Client) -> None:
    await client.set("mine", 1)
    waiting = asyncio.create_task(client.xread({"never": "$"}, block=1_000))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await client.get("mine") == b"1"


async def test_an_answer_left_in_the_buffer_is_noticed(client: Client) -> None:
    connection = await client.connection_pool.get_connection()
    await connection.send_command("PING")
    async with asyncio.timeout(30):
        while not await connection.can_read_destructive():
            await asyncio.sleep(0.005)
    await client.connection_pool.release(connection)
    await client.set("asked", 2)
    assert await client.get("asked") == b"2"


async def test_a_server_that_loads_its_data_loses_the_connection_and_not_the_answers_order() -> None:
    """The second of two answers that come together is the kind of error that ends a connection."""
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = Splitter()
        while data := await reader.read(65_536):
            for request in splitter.feed(data):
                if arguments(request)[0] == b"SCRIPT":
                    writer.write(b"+OK\r\n-LOADING Redis is loading the dataset in memory\r\n")
                elif arguments(request)[0] == b"CLIENT":
                    writer.write(b"+OK\r\n")
        writer.close()
        await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = Tcp(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    await connection.connect()
    await connection.send_command("SCRIPT LOAD", "return 1")
    assert await connection.read_response() == b"OK"
    with pytest.raises(BusyLoadingError):
        await connection.read_response()
    assert not connection.is_connected
    with pytest.raises(LostError):
        await connection.read_response()
    await served.wait()
    server.close()
