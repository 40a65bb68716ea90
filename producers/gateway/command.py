"""``dsdq gateway``: OpenAI's HTTP endpoints over the service."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from dsdq.descriptors import raise_limit
from dsdq.errors import ConfigError
from dsdq.settings import settings
from dsdq.threads import share_cores
from producers.openai.drafts import NAMES


def gateway(
    redis: Annotated[str | None, typer.Option(help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    draft: Annotated[
        list[str] | None,
        typer.Option(
            help="What it drafts with for its clients; the first that fits the target.", show_default=", ".join(NAMES)
        ),
    ] = None,
) -> None:
    """Serve OpenAI's HTTP API, and draft for clients that have no draft model, until interrupted."""
    try:
        from producers.gateway.server import serve  # noqa: PLC0415 - a device has no HTTP server installed
    except ModuleNotFoundError as error:
        raise ConfigError(f"gateway: expected {error.name} to be installed; install dsdq[gateway]") from error
    share_cores()
    raise_limit()
    asyncio.run(serve(redis or settings().redis_url, host, port, tuple(draft or NAMES), settings()))
