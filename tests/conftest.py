"""What every test may use: a real Redis, empty for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """Start one embedded server on loopback for the whole run and give its URL."""
    with asyncio.Runner() as runner:
        server = EmbeddedRedis(port=0)
        runner.run(server.start())
        yield server.url
        runner.run(server.stop())


@pytest.fixture
async def redis(redis_server: str) -> AsyncIterator[Redis]:
    """Give a client of an empty server."""
    client = open_redis(redis_server)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def redis_url(redis_server: str, redis: Redis) -> str:
    """Give the URL of an empty server."""
    del redis
    return redis_server
