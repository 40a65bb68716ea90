"""A device's line to a gateway that says what it likes: what is given up, what is tried again, what waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from dsdq.errors import BusError, BusyError, DeniedError, GatewayUnavailableError, GoneError
from dsdq.wire.frames import (
    SUBPROTOCOL,
    AskWorkers,
    Challenge,
    Close,
    Entry,
    Hello,
    Refused,
    RefusedCode,
    Welcome,
    Workers,
    pack_frame,
    unpack_frame,
)
from producers.device import line as module
from producers.device.line import Line

Script = Callable[[ServerConnection, int], Awaitable[None]]
WORKERS = AskWorkers


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[Entry] = []
        self.resumed = 0
        self.hung_up = asyncio.Event()

    def greet(self, nonce: bytes) -> Hello:
        return Hello("phone", secret=2 * nonce)

    def resume(self) -> None:
        self.resumed += 1

    def hear(self, entry: Entry) -> None:
        self.heard.append(entry)

    def hang_up(self) -> None:
        self.hung_up.set()


async def welcome(socket: ServerConnection, requests: int = 8) -> None:
    await socket.send(pack_frame(Challenge(bytes(16))))
    assert isinstance(unpack_frame(bytes(await socket.recv())), Hello)
    await socket.send(pack_frame(Welcome("acme", 8, requests, 1 << 20)))


async def asked(socket: ServerConnection) -> AskWorkers:
    frame = unpack_frame(bytes(await socket.recv()))
    assert isinstance(frame, AskWorkers)
    return frame


@asynccontextmanager
async def line_to(script: Script, *, status: HTTPStatus | None = None) -> AsyncIterator[tuple[Line, Listener]]:
    """Give a line, not open yet, to a gateway that does as ``script`` says with each connection."""
    count = 0

    async def handle(socket: ServerConnection) -> None:
        nonlocal count
        count += 1
        await script(socket, count)

    def refuse(socket: ServerConnection, _: Request) -> Response | None:
        return None if status is None else socket.respond(status, "no")

    subprotocols = [Subprotocol(SUBPROTOCOL)]
    async with serve(handle, "127.0.0.1", 0, subprotocols=subprotocols, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        listener = Listener()
        line = Line(f"ws://127.0.0.1:{port}", {}, listener, random.Random(1))
        try:
            yield line, listener
        finally:
            await line.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_MS", 1)
    monkeypatch.setattr(module, "LONGEST_PAUSE_MS", 10)


@pytest.mark.parametrize(
    ("close", "error"),
    [
        (Close.KEY, DeniedError),
        (Close.FORBIDDEN, DeniedError),
        (Close.FRAME, DeniedError),
        (Close.MANY, GatewayUnavailableError),
        (Close.LATER, GatewayUnavailableError),
        (Close.RESTART, GatewayUnavailableError),
    ],
)
async def test_whoever_is_not_let_in_is_told_why(close: Close, error: type[BusError]) -> None:
    async def script(socket: ServerConnection, _: int) -> None:
        await socket.close(close, "for a reason")

    async with line_to(script) as (line, _):
        with pytest.raises(error, match="for a reason"):
            await line.open()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (HTTPStatus.NOT_FOUND, DeniedError),
        (HTTPStatus.TOO_MANY_REQUESTS, GatewayUnavailableError),
        (HTTPStatus.BAD_GATEWAY, GatewayUnavailableError),
    ],
)
async def test_a_proxy_in_front_says_whether_to_come_again(status: HTTPStatus, error: type[BusError]) -> None:
    async with line_to(lambda *_: asyncio.sleep(0), status=status) as (line, _):
        with pytest.raises(error):
            await line.open()


@pytest.mark.parametrize("said", [b"garbage", "text", pack_frame(Workers(1, ()))], ids=["garbage", "text", "an answer"])
async def test_what_is_no_gateway_is_not_spoken_with(said: bytes | str) -> None:
    async def script(socket: ServerConnection, _: int) -> None:
        await socket.send(said)

    async with line_to(script) as (line, _):
        with pytest.raises(DeniedError, match="expected one that speaks"):
            await line.open()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (RefusedCode.BUSY, BusyError),
        (RefusedCode.GONE, GoneError),
        (RefusedCode.UNAVAILABLE, GatewayUnavailableError),
        (RefusedCode.DENIED, DeniedError),
        (RefusedCode.FORBIDDEN, DeniedError),
        ("of_a_later_release", DeniedError),
    ],
)
async def test_what_is_refused_is_raised(code: str, error: type[BusError]) -> None:
    async def script(socket: ServerConnection, _: int) -> None:
        await welcome(socket)
        await socket.send(pack_frame(Refused((await asked(socket)).id, code, "for a reason", 70)))
        await socket.wait_closed()

    async with line_to(script) as (line, _):
        await line.open()
        with pytest.raises(error, match="for a reason") as raised:
            await line.ask(WORKERS)
    if isinstance(raised.value, BusyError):
        assert raised.value.retry_after_ms == 70


async def test_a_line_that_breaks_fails_who_waits_and_comes_back_for_who_asks_next() -> None:
    async def script(socket: ServerConnection, number: int) -> None:
        await welcome(socket)
        frame = await asked(socket)
        if number == 1:
            socket.transport.abort()
        elif number == 2:
            await socket.close(Close.SLOW)
        else:
            await socket.send(pack_frame(Workers(frame.id, (b"%d" % number,))))
            await socket.wait_closed()

    async with line_to(script) as (line, listener):
        await line.open()
        for _ in range(2):
            with pytest.raises(GatewayUnavailableError):
                await line.ask(WORKERS)
        assert await line.ask(WORKERS) == Workers(3, (b"3",))
    assert listener.resumed == 3
    assert not listener.hung_up.is_set()


async def test_a_key_that_is_revoked_hangs_up() -> None:
    async def script(socket: ServerConnection, _: int) -> None:
        await welcome(socket)
        await asked(socket)
        await socket.close(Close.KEY, "revoked")

    async with line_to(script) as (line, listener):
        await line.open()
        with pytest.raises(GatewayUnavailableError):
            await line.ask(WORKERS)
        await listener.hung_up.wait()
        with pytest.raises(DeniedError, match="revoked"):
            await line.ask(WORKERS)


async def test_no_more_is_asked_at_once_than_the_gateway_takes_and_answers_find_who_asked() -> None:
    most = 0

    async def script(socket: ServerConnection, _: int) -> None:
        nonlocal most
        await welcome(socket, requests=3)
        while True:
            frames = [await asked(socket)]
            while True:
                try:
                    async with asyncio.timeout(0.05):
                        frames.append(await asked(socket))
                except TimeoutError:
                    break
            most = max(most, len(frames))
            await socket.send(pack_frame(Entry("s", 1, 1, b"m")))
            for frame in reversed(frames):
                await socket.send(pack_frame(Workers(frame.id, (frame.model.encode(),))))

    async with line_to(script) as (line, listener):
        await line.open()
        asking = [line.ask(lambda id_, n=number: AskWorkers(id_, f"m{n}")) for number in range(7)]  # type: ignore[misc]
        answers = await asyncio.gather(*asking)
    assert [one.entries for one in answers if isinstance(one, Workers)] == [(b"m%d" % n,) for n in range(7)]
    assert most <= 3
    assert listener.heard


async def test_an_answer_that_never_comes_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(socket: ServerConnection, _: int) -> None:
        await welcome(socket)
        await socket.wait_closed()

    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    async with line_to(script) as (line, _):
        await line.open()
        with pytest.raises(GatewayUnavailableError, match="none came"):
            await line.ask(WORKERS)
