"""A device that speaks frames by hand, and says what it likes; and a proxy that cuts its connections."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from dsdq.bus.tenants import TenantStore
from dsdq.contract import Contract
from dsdq.sealing import name_made_of
from dsdq.tasks import end, end_all_of, start_for
from dsdq.tenants import Tenant, fresh_key, wrap
from dsdq.wire import Open, pack, pack_contract
from dsdq.wire.frames import (
    PATH,
    SUBPROTOCOL,
    Challenge,
    Entry,
    Frame,
    Hello,
    Welcome,
    pack_frame,
    unpack_frame,
)

SECRET = bytes(range(32))
NAME = name_made_of(SECRET)
SERVICE_KEY, TENANT_SECRET = secrets.token_bytes(32), secrets.token_bytes(32)
Kind = TypeVar("Kind")


class Raw:
    """One connection. ``entries`` are those that were pushed so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.entries: list[Entry] = []

    async def say(self, frame: Frame | bytes | str) -> None:
        await self.socket.send(frame if isinstance(frame, bytes | str) else pack_frame(frame))

    def says_at_once(self, *frames: Frame) -> None:
        """Send frames that come in one piece."""
        for frame in frames:
            self.socket.protocol.send_binary(pack_frame(frame))
        self.flush()

    def flush(self) -> None:
        """Send what was given to the protocol."""
        self.socket.transport.write(b"".join(self.socket.protocol.data_to_send()))

    async def next(self) -> Frame:
        data = await self.socket.recv()
        assert isinstance(data, bytes)
        return unpack_frame(data)

    async def hears(self, kind: type[Kind]) -> Kind:
        """Return the next frame that is no entry."""
        while isinstance(frame := await self.next(), Entry):
            self.entries.append(frame)
        assert isinstance(frame, kind), frame
        return frame

    async def asks(self, frame: Frame, kind: type[Kind]) -> Kind:
        await self.say(frame)
        return await self.hears(kind)

    async def greets(self, hello: Hello | None = None) -> Welcome:
        await self.hears(Challenge)
        return await self.asks(hello or Hello(NAME, secret=SECRET), Welcome)

    async def end(self) -> int:
        """Wait until the gateway ends the connection; return the close code."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.socket.recv()
        assert self.socket.close_code is not None
        return self.socket.close_code


@asynccontextmanager
async def raw(url: str, key: str = "", **changed: Any) -> AsyncIterator[Raw]:
    """Connect to the gateway whose devices come to ``url``; nothing is said yet."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    options = {"subprotocols": [Subprotocol(SUBPROTOCOL)], "additional_headers": headers, "compression": None}
    async with connect(url + PATH, **(options | changed), max_size=None, close_timeout=1) as socket:
        yield Raw(socket)


@asynccontextmanager
async def guest(place: str, hello: Hello | None = None, key: str = "") -> AsyncIterator[Raw]:
    async with raw(place, key) as device:
        await device.greets(hello)
        yield device


async def tenant(redis: Redis, name: str = "acme", *, seals: bool = False) -> str:
    """Add a tenant and return its API key."""
    text, key = fresh_key(name)
    wrapped = (wrap(SERVICE_KEY, name, TENANT_SECRET),) if seals else ()
    await TenantStore(redis).add(Tenant(name=name, created=datetime.now(UTC), keys=(key,), secrets=wrapped))
    return text


def contract_of(session: str, **changed: Any) -> Contract:
    terms = {"tenant": "default", "producer": NAME, "target": "testing/hash", "tokenizer_fingerprint": "f"}
    return Contract(session=session, **(terms | changed))


def opening(contract: Contract) -> bytes:
    return pack(Open(contract.session, pack_contract(contract), (1, 2, 3)))


class Cutter:
    """Listens at ``url`` for what is to reach ``target``; cuts each connection after some bytes, drawn by chance."""

    def __init__(self, target: str, rng: random.Random, least: int, most: int) -> None:
        self.url = ""
        self.cuts = 0
        self._target, self._rng = urlsplit(target), rng
        self._least, self._most = least, most
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await end_all_of(self)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start_for(self, self._carry(reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        left = [self._rng.randint(self._least, self._most)]
        ways = [asyncio.create_task(self._pump(*way, left)) for way in ((reader, there[1]), (there[0], writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*ways)
            for one in (writer, there[1]):
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data[: left[0]])  # also the middle of a frame
                await writer.drain()
                left[0] -= len(data)
                if left[0] <= 0:
                    self.cuts += 1
                    return
