"""A gateway over a real Redis and a real verifier, asked by OpenAI's own client over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import openai
import pytest
from redis.asyncio import Redis

from dsdq.models.names import HASH_TARGET
from dsdq.settings import Settings
from producers.gateway.app import assemble
from producers.gateway.server import Server, configured
from tests.conftest import Serve
from tests.producers.gateway.raw import tenant

DRAFTS = ("hash:0.8",)
PATIENCE_S = 200.0  # everything runs on the test's own loop, which may be busy
OpenGateway = Callable[..., AbstractAsyncContextManager[str]]


def asking_at(url: str, key: str = "none") -> openai.AsyncOpenAI:
    """Return OpenAI's client, which asks once and waits."""
    return openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=PATIENCE_S)


@asynccontextmanager
async def gateway_at(
    redis_url: str, drafts: tuple[str, ...] = DRAFTS, port: int = 0, **changed: object
) -> AsyncIterator[str]:
    """Serve HTTP over a Redis for the block; give the address of ``/v1``."""
    chosen = Settings(**{"redis_url": redis_url, **changed})  # type: ignore[arg-type]
    servers: list[Server] = []
    async with assemble(redis_url, chosen, drafts, lambda: any(one.should_exit for one in servers)) as app:
        server = Server(configured(app, chosen, port=port, timeout_graceful_shutdown=None), "a test's redis")
        servers.append(server)
        serving = asyncio.create_task(server.serve())
        await server.listening.wait()
        try:
            yield f"http://127.0.0.1:{server.port}/v1"
        finally:
            server.should_exit = True
            await serving


@pytest.fixture
def open_gateway(redis_url: str) -> OpenGateway:
    """Return a context manager that serves HTTP over an empty server for its block and gives the address of ``/v1``."""
    return partial(gateway_at, redis_url, allow_unsafe_redis=True)


@pytest.fixture
async def client(serve: Serve, open_gateway: OpenGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """Give OpenAI's client of a gateway over the hash target."""
    async with (
        serve(HASH_TARGET, allow_unsafe_redis=True),
        open_gateway() as url,
        asking_at(url) as asking,
    ):
        yield asking


def socket_at(url: str) -> str:
    """Return where devices connect to the gateway at ``/v1``."""
    return url.replace("http://", "ws://").removesuffix("/v1")


@pytest.fixture
async def acme(redis: Redis) -> str:
    """Give the API key of a tenant; ask for it before a gateway, which looks who there is when it begins."""
    return await tenant(redis)


@pytest.fixture
async def globex(redis: Redis) -> str:
    """Give the API key of another."""
    return await tenant(redis, "globex")


@pytest.fixture
async def place(open_gateway: OpenGateway) -> AsyncIterator[str]:
    """Give where devices come to a gateway of an empty service."""
    async with open_gateway() as url:
        yield socket_at(url)
