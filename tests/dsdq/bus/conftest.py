"""Everything about Redis is tested against two servers: the bundled one, and the newest that is installed here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from dsdq.bus.embedded import EmbeddedRedis, find_server
from tests.conftest import TICKS_OFTEN, newest_server


@pytest.fixture(scope="session", params=["bundled", "newest"])
def program(request: pytest.FixtureRequest) -> str:
    """Give a redis-server."""
    return find_server() if request.param == "bundled" else newest_server()


@pytest.fixture(scope="session")
def redis_server(program: str) -> Iterator[str]:
    """Start one server for all tests here and give its URL."""
    with asyncio.Runner() as runner:
        server = EmbeddedRedis(port=0, program=program, arguments=TICKS_OFTEN)
        runner.run(server.start())
        yield server.url
        runner.run(server.stop())
