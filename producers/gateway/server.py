"""The gateway as an HTTP server: where it listens, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import typer
import uvicorn

from dsdq.bus.address import shown
from dsdq.errors import ConfigError
from dsdq.settings import Settings
from producers.gateway.app import assemble


class Server(uvicorn.Server):
    """Says where it listens, and ends at a signal as any command does: not by the signal that it has dealt with."""

    def __init__(self, config: uvicorn.Config, over: str) -> None:
        super().__init__(config)
        self.port = 0
        self.listening = asyncio.Event()
        self._over = over

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen; ``port`` is the real one then."""
        await super().startup(sockets)
        if self.started:
            host, self.port = (sockets or self.servers[0].sockets)[0].getsockname()[:2]
            typer.echo(f"ready: http://{host}:{self.port}/v1 over {self._over}")
            self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let a signal end the server."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def serve(url: str, host: str, port: int, drafts: tuple[str, ...], chosen: Settings) -> None:
    """Serve until a signal comes; then take no more requests, and finish those that have begun.

    Raises:
        ConfigError: it cannot listen there.
        BusError: Redis cannot be reached or is not fit for use.
        ModelError: a drafter cannot be loaded.
    """
    server: Server | None = None

    def draining() -> bool:
        """Say whether the server takes no more requests."""
        return server is not None and server.should_exit

    with _listen(host, port) as listening:
        async with assemble(url, chosen, drafts, draining) as app:
            grace_s = chosen.drain_ms // 1000 + 1
            config = uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=grace_s
            )
            server = Server(config, shown(url))
            await server.serve([listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"gateway: expected an address to listen at, got {host}:{port}: {error.strerror}") from None
