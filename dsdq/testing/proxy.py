"""A proxy in front of Redis that breaks connections in the ways that networks do.

It cuts both directions into whole requests and replies, so that it can lose the acknowledgement of a write that was
done, or deliver a request twice and keep its client in step. Order within a direction is never changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from dsdq.bus.embedded import LOOPBACK
from dsdq.tasks import end, end_all_of, start_for
from dsdq.testing.resp import Splitter, arguments

READ_BYTES = 1 << 16
LANE_MESSAGES = 256
WRITES = frozenset({b"EVALSHA", b"XADD"})


class Fault(StrEnum):
    """What a proxy does to its connections.

    ``LOST_REQUEST``: swallowed, and the connection is cut. ``LOST_REPLY``: the server did what was asked, its reply is
    swallowed, and the connection is cut. ``DUPLICATE``: the server gets the request twice, the client one reply.
    ``CUT``: closed at once. ``STALL``: nothing moves for a while. ``REFUSED``: no server was there to connect to.
    """

    LOST_REQUEST = "lost request"
    LOST_REPLY = "lost reply"
    DUPLICATE = "duplicate"
    CUT = "cut"
    STALL = "stall"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Line:
    """How slow one direction is: each message waits ``delay_ms`` and up to ``jitter_ms`` more, but overtakes none."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to the messages of a connection; the rates are shares of all requests.

    Only requests of ``duplicated`` commands are ever delivered twice.
    """

    up: Line = Line()
    down: Line = Line()
    lose_request: float = 0.0
    lose_reply: float = 0.0
    duplicate: float = 0.0
    duplicated: frozenset[bytes] = WRITES


NO_FAULTS = Faults()


class _Fate(StrEnum):
    """What is done with the next reply of the server."""

    PASS = "pass"  # noqa: S105 - no password
    SWALLOW = "swallow"
    CUT = "cut"


class _Lane:
    """One direction: holds messages until they are due."""

    def __init__(self, writer: asyncio.StreamWriter, rng: random.Random) -> None:
        self._writer = writer
        self._rng = rng
        self._due_s = 0.0
        self._held_until_s = 0.0
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(LANE_MESSAGES)

    def hold(self, until_s: float) -> None:
        """Let nothing through before ``until_s`` of the loop's clock."""
        self._held_until_s = max(self._held_until_s, until_s)

    async def put(self, data: bytes, line: Line) -> None:
        """Let ``data`` follow what was put before; no bytes end the lane."""
        wait_s = (line.delay_ms + self._rng.uniform(0, line.jitter_ms)) / 1000
        sending_s = len(data) / line.bytes_per_s if line.bytes_per_s else 0.0
        self._due_s = max(self._due_s, asyncio.get_running_loop().time() + wait_s) + sending_s
        await self._queue.put((self._due_s, data))

    async def run(self) -> None:
        """Deliver until the lane ends."""
        while True:
            due_s, data = await self._queue.get()
            await self._until(due_s)
            if not data:
                return
            self._writer.write(data)
            await self._writer.drain()

    async def _until(self, due_s: float) -> None:
        clock = asyncio.get_running_loop().time
        while True:  # a stall may begin while we wait
            left_s = max(due_s, self._held_until_s) - clock()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    """One client's connection through a proxy. ``faults`` may be changed at any time."""

    def __init__(self, client: Stream, server: Stream, rng: random.Random, proxy: FaultProxy) -> None:
        self.faults = proxy.faults
        self._client, self._server = client, server
        self._rng = rng
        self._proxy = proxy
        self._up, self._down = _Lane(server[1], rng), _Lane(client[1], rng)
        self._fates: deque[_Fate] = deque()
        self._cut, self._ended = asyncio.Event(), asyncio.Event()

    def cut(self) -> None:
        """Close it now, whatever is under way."""
        self._proxy.injected[Fault.CUT] += 1
        self._cut.set()

    async def close(self) -> None:
        """Close it now, and wait until it is."""
        self._cut.set()
        await self._ended.wait()

    def stall(self, seconds: float) -> None:
        """Let nothing through, in either direction, for ``seconds``."""
        self._proxy.injected[Fault.STALL] += 1
        until_s = asyncio.get_running_loop().time() + seconds
        self._up.hold(until_s)
        self._down.hold(until_s)

    async def run(self) -> None:
        """Carry messages until either side closes; what it sent before still arrives, unless the connection is cut."""
        reading = [asyncio.create_task(self._read_requests()), asyncio.create_task(self._read_replies())]
        ends = [asyncio.create_task(part) for part in (self._up.run(), self._down.run(), self._cut.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*reading, *ends)
            for _, writer in (self._client, self._server):
                if self._cut.is_set():
                    writer.transport.abort()
                writer.close()
            self._ended.set()

    async def _read_requests(self) -> None:
        splitter = Splitter()
        with contextlib.suppress(OSError):
            while data := await self._client[0].read(READ_BYTES):
                self._proxy.bytes_up += len(data)
                for request in splitter.feed(data):
                    if self._proxy.on_request is not None:
                        self._proxy.on_request(arguments(request))
                    await self._up.put(self._on_its_way(request), self.faults.up)
        await self._up.put(b"", self.faults.up)

    async def _read_replies(self) -> None:
        splitter = Splitter()
        with contextlib.suppress(OSError):
            while data := await self._server[0].read(READ_BYTES):
                self._proxy.bytes_down += len(data)
                for reply in splitter.feed(data):
                    fate = self._fates.popleft() if self._fates else _Fate.PASS
                    if fate is _Fate.CUT:  # with all that comes behind it
                        self._cut.set()
                        return
                    if fate is _Fate.PASS:
                        await self._down.put(reply, self.faults.down)
        await self._down.put(b"", self.faults.down)

    def _on_its_way(self, request: bytes) -> bytes:
        """Return what the server is to get for a request, nothing where the connection is to end."""
        faults = self.faults
        if self._strikes(faults.lose_request, Fault.LOST_REQUEST):
            return b""
        if self._strikes(faults.lose_reply, Fault.LOST_REPLY):
            self._fates.append(_Fate.CUT)
            return request
        if arguments(request)[0].upper() in faults.duplicated and self._strikes(faults.duplicate, Fault.DUPLICATE):
            self._fates += (_Fate.PASS, _Fate.SWALLOW)
            return request + request
        self._fates.append(_Fate.PASS)
        return request

    def _strikes(self, rate: float, fault: Fault) -> bool:
        struck = self._rng.random() < rate
        if struck:
            self._proxy.injected[fault] += 1
        return struck


class FaultProxy:
    """Listens on a loopback port while its block runs, and connects each client to ``target``.

    ``injected`` counts what was done to whom, ``bytes_up`` what clients sent, ``bytes_down`` what the server did.
    ``faults`` hold for connections to come, :meth:`set_faults` changes them for those that are there too.

    Args:
        target: ``redis://host:port/…`` or ``unix://path``.
        rng: decides what strikes whom; every connection draws from a generator of its own, seeded from this one.
        faults: what happens from the start.
        on_request: is given the words of every request that a client sends, before anything happens to it.
    """

    def __init__(
        self,
        target: str,
        rng: random.Random,
        faults: Faults = NO_FAULTS,
        on_request: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self.faults = faults
        self.on_request = on_request
        self.injected: Counter[Fault] = Counter()
        self.bytes_up = self.bytes_down = 0
        self.url = ""
        self._target = urlsplit(target)
        self._rng = rng
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen; ``url`` says where."""
        self._listener = await asyncio.start_server(self._accept, LOOPBACK, 0)
        port = self._listener.sockets[0].getsockname()[1]
        self.url = f"redis://{LOOPBACK}:{port}/0"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection and listen no more."""
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*(connection.close() for connection in self.connections))
        await end_all_of(self)

    @property
    def connections(self) -> list[Connection]:
        """Return the connections that are open now."""
        return list(self._connections)

    def set_faults(self, faults: Faults) -> None:
        """Let ``faults`` hold for all connections, old and new."""
        self.faults = faults
        for connection in self.connections:
            connection.faults = faults

    def cut(self, share: float = 1.0) -> None:
        """Cut each connection with probability ``share``."""
        for connection in self._some(share):
            connection.cut()

    def stall(self, seconds: float, share: float = 1.0) -> None:
        """Stall each connection for ``seconds`` with probability ``share``."""
        for connection in self._some(share):
            connection.stall(seconds)

    def _some(self, share: float) -> list[Connection]:
        return [connection for connection in self.connections if self._rng.random() < share]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start_for(self, self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await self._connect()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        except OSError:
            self.injected[Fault.REFUSED] += 1
            writer.transport.abort()
            return
        connection = Connection((reader, writer), server, random.Random(self._rng.getrandbits(64)), self)  # noqa: S311
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _connect(self) -> Stream:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(self._target.path)
        return await asyncio.open_connection(self._target.hostname, self._target.port)
