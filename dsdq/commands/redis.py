"""``dsdq redis``: the embedded server in the foreground."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from dsdq.bus.embedded import EmbeddedRedis
from dsdq.errors import RedisUnavailableError


def redis(
    port: Annotated[int, typer.Option(min=0, max=65535, help="A loopback port; 0 takes a free one.")] = 0,
) -> None:
    """Run a private Redis until interrupted, and print its URL. Its data goes with it."""
    asyncio.run(_serve(port))


async def _serve(port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with EmbeddedRedis(port) as server:
        typer.echo(server.url)
        ended = asyncio.create_task(server.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if ended.done():
            msg = "redis: expected the embedded server to run until interrupted, it ended by itself"
            raise RedisUnavailableError(msg)
        ended.cancel()
