"""The gateway as an HTTP server: where it listens, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import typer
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from dsdq.bus.address import shown
from dsdq.errors import ConfigError
from dsdq.settings import Settings
from dsdq.wire.frames import MAX_FRAME_BYTES
from dsdq.wire.limits import MAX_OPEN_BYTES
from producers.gateway.app import assemble

FRAGMENTS = 1_024  # of one message; empty ones too are kept until it is whole
LINGER_S = 5.0  # that a socket may take for what is left to send when nobody serves it any more


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that keeps little for whoever reads nothing, and ends all the same.

    Its application can cut it off: ``state.abort()``. One that reads nothing ends no other way.
    """

    _pongs = b""  # that wait for room

    def handle_connect(self, event: Request) -> None:
        """Let the application know how."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["state"]["abort"] = self.transport.abort

    def handle_ping(self) -> None:
        """Answer, as far as answers are taken: of pings that came meanwhile, the last is enough (RFC 6455, 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self._pongs = b"".join(self.conn.data_to_send()) or self._pongs

    def resume_writing(self) -> None:
        """Answer the last ping."""
        super().resume_writing()
        pongs, self._pongs = self._pongs, b""
        self.transport.write(pongs)

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment, and no more of them than there may be."""
        if len(self.frames) < FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"expected at most {FRAGMENTS} fragments, got more")
            self.handle_parser_exception()

    def keepalive_timeout(self) -> None:
        """Have the application end too: the connection is not lost before what waits is sent, which may be never."""
        super().keepalive_timeout()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.INTERNAL_ERROR})

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """See that the socket ends when its application has."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)


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
            server = Server(configured(app, chosen), shown(url))
            await server.serve([listening])


def configured(app: Starlette, chosen: Settings, **changed: Any) -> uvicorn.Config:  # noqa: ANN401 - uvicorn's own
    """Return how the application is served."""
    ping_s = chosen.device_ping_ms / 1000
    options: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "lifespan": "off",
        "timeout_graceful_shutdown": chosen.drain_ms // 1000 + 1,
        "ws": SocketProtocol,
        "ws_max_size": chosen.device_message_bytes + MAX_FRAME_BYTES - MAX_OPEN_BYTES,
        "ws_ping_interval": ping_s,
        "ws_ping_timeout": ping_s,
        "ws_per_message_deflate": False,  # ids do not get smaller, and each connection would keep two windows
    }
    return uvicorn.Config(app, **(options | changed))


def _listen(host: str, port: int) -> socket.socket:
    try:
        made = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # For its connections: asyncio sees to it only where a socket was made for TCP by name, and small writes would
        # wait for the other side's delayed acknowledgement, up to 40 ms.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise ConfigError(f"gateway: expected an address to listen at, got {host}:{port}: {error.strerror}") from None
    return made
