"""What a gateway's WebSocket keeps for whoever reads nothing, or sends pieces of nothing, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from asyncio.transports import BaseTransport
from collections.abc import Iterator
from typing import Any, ClassVar
from unittest.mock import patch

import pytest

from dsdq.wire.frames import AskWorkers, Challenge, Workers
from producers.gateway import ingress, server
from producers.gateway.server import FRAGMENTS, SocketProtocol
from producers.gateway.visit import Visit
from tests.producers.gateway.conftest import OpenGateway, socket_at
from tests.producers.gateway.raw import Raw, guest, raw

TOO_BIG = 1009
PINGS, PING_BYTES = 20_000, 125
LIMIT_S = 30


class Watched(SocketProtocol):
    """Has little room in the kernel, and says what it keeps and when it is gone."""

    made: ClassVar[list[Watched]]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.pings, self.most = 0, 0
        self.gone = asyncio.Event()
        self.made.append(self)

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        narrow(transport, socket.SO_SNDBUF)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()

    def handle_ping(self) -> None:
        super().handle_ping()
        self.pings += 1
        self.most = max(self.most, self.transport.get_write_buffer_size() + len(self._pongs))


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    Watched.made = []
    with patch.object(server, "SocketProtocol", Watched):
        yield


def narrow(transport: BaseTransport, side: int) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, side, 4096)


async def ping_and_read_nothing(device: Raw) -> asyncio.Future[float]:
    """Have far more pongs made than are taken; return what waits for the last."""
    narrow(device.socket.transport, socket.SO_RCVBUF)
    device.socket.transport.pause_reading()
    for _ in range(PINGS):
        device.socket.protocol.send_ping(bytes(PING_BYTES))
    device.flush()
    last = await device.socket.ping(b"last")
    (there,) = Watched.made
    async with asyncio.timeout(LIMIT_S):
        while there.pings <= PINGS:
            await asyncio.sleep(0.01)
    return asyncio.ensure_future(last)


async def test_pongs_that_are_not_taken_are_not_kept_and_the_last_comes(open_gateway: OpenGateway) -> None:
    async with open_gateway() as url, guest(socket_at(url)) as device:
        last = await ping_and_read_nothing(device)
        assert Watched.made[0].most < PINGS * PING_BYTES // 2
        device.socket.transport.resume_reading()
        async with asyncio.timeout(LIMIT_S):
            await last
        await device.asks(AskWorkers(1), Workers)


async def test_who_does_not_answer_for_its_life_leaves_its_place_and_its_socket(
    open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = asyncio.Event()

    class Leaving(Visit):
        async def run(self) -> None:
            try:
                await super().run()
            finally:
                left.set()

    monkeypatch.setattr(server, "LINGER_S", 0.1)
    monkeypatch.setattr(ingress, "Visit", Leaving)
    async with open_gateway(device_ping_ms=2_000, device_stall_ms=120_000) as url, guest(socket_at(url)) as device:
        await ping_and_read_nothing(device)
        async with asyncio.timeout(LIMIT_S):
            await left.wait()
            await Watched.made[0].gone.wait()
        assert not device.socket.transport.is_reading()  # it was not asked


async def test_a_message_has_so_many_fragments_and_no_more(place: str) -> None:
    async with raw(place) as device:
        await device.hears(Challenge)
        protocol = device.socket.protocol
        protocol.send_binary(b"", fin=False)
        for left in reversed(range(FRAGMENTS)):
            protocol.send_continuation(b"", fin=not left)
        device.flush()
        assert await device.end() == TOO_BIG
