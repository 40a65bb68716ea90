"""What every test may use: a real Redis, empty for each test; tiny models, made once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.testing.tiny import make_tiny


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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a tiny random model of an architecture, made once."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = tmp_path_factory.mktemp(architecture)
            make_tiny(made[architecture], architecture)
        return made[architecture]

    return folder
