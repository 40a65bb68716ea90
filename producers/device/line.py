"""A WebSocket to a gateway that comes back when it breaks: requests get their answers, pushed entries are handed on.

Whoever asks while it is broken waits a while for it. What was asked when it broke is told to be unavailable, and may
have been done.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from ssl import SSLCertVerificationError
from typing import Any, Protocol, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, NegotiationError, WebSocketException
from websockets.typing import Subprotocol

from dsdq.errors import BusError, BusyError, ConfigError, DeniedError, GatewayUnavailableError, GoneError, WireError
from dsdq.policies.retry import Backoff
from dsdq.tasks import end
from dsdq.telemetry.logs import get_logger
from dsdq.wire.frames import (
    FINAL,
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Answer,
    Challenge,
    Entry,
    Frame,
    Hello,
    Refused,
    RefusedCode,
    Request,
    Welcome,
    pack_frame,
    unpack_frame,
)

log = get_logger("line")

ANSWER_S = 10.0  # a gateway has asked Redis for longer than it tries by then
DIAL_S = 10.0
PING_S = 10.0
CLOSE_S = 1.0
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 200, 5_000
PASSING = frozenset({408, 425, 429})  # of the 4xx


class Listener(Protocol):
    """Whoever a line belongs to."""

    def greet(self, nonce: bytes) -> Hello:
        """Return who is at this end."""
        ...

    def resume(self) -> None:
        """Ask again for what is followed: the gateway knows of nothing."""
        ...

    def hear(self, entry: Entry) -> None:
        """Take in an entry that was pushed."""
        ...

    def hang_up(self) -> None:
        """Know that the line will not come back."""
        ...


class Line:
    """One connection after the other. ``headers`` go along with the handshake; ``welcome`` is the latest."""

    def __init__(self, url: str, headers: dict[str, str], listener: Listener, rng: random.Random) -> None:
        self.welcome: Welcome | None = None
        self._url, self._headers = url, headers
        self._listener, self._rng = listener, rng
        self._socket: ClientConnection | None = None
        self._up = asyncio.Event()
        self._denied: DeniedError | None = None
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._places: asyncio.Semaphore | None = None
        self._keeping: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Connect.

        Raises:
            GatewayUnavailableError: the gateway does not let us in now.
            DeniedError: it never will.
        """
        await self._dial()
        self._keeping = [asyncio.create_task(self._keep())]

    async def close(self) -> None:
        """Disconnect for good."""
        await end(*self._keeping)
        await self._drop()
        self._fail()

    async def ask(self, make: Callable[[int], Request]) -> Answer:
        """Send the request that ``make`` gives for an id, and return its answer.

        Raises:
            GatewayUnavailableError: the line broke, or no answer came in time.
            BusError: it was not done, as the gateway says.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._up.wait()
                if self._denied is not None:
                    raise DeniedError(str(self._denied))
                async with self._place():
                    answer = await self._answered(make)
        except TimeoutError:
            raise GatewayUnavailableError(f"gateway: expected an answer within {ANSWER_S:.0f} s, none came") from None
        if isinstance(answer, Refused):
            raise _refusal(answer)
        return answer

    def tell(self, frame: Frame) -> Coroutine[Any, Any, None]:
        """Return what sends a frame that needs no answer; it is lost where the line is broken."""
        return self._send(self._socket, frame)

    def _place(self) -> asyncio.Semaphore:
        """Return what keeps the number of unanswered requests to what the gateway takes."""
        if self._places is None:
            raise ConfigError("expected an open line")
        return self._places

    async def _answered(self, make: Callable[[int], Request]) -> Answer:
        self._last_id += 1
        id_ = self._last_id
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[id_] = answer
        try:
            if self._socket is None:
                raise _broken()
            await self._send(self._socket, make(id_))
            return await answer
        finally:
            self._waiting.pop(id_, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen: nobody waits for it any more

    async def _send(self, socket: ClientConnection | None, frame: Frame) -> None:
        if socket is not None:
            with contextlib.suppress(ConnectionClosed):  # whoever waits for an answer is told
                await socket.send(pack_frame(frame))

    # The connection

    async def _keep(self) -> None:
        """Listen, and connect again when the line breaks, until the gateway says never to."""
        backoff = Backoff(self._rng, FIRST_PAUSE_MS, LONGEST_PAUSE_MS)
        while True:
            if self._socket is not None:
                socket = self._socket
                await self._listen(socket)
                await self._drop()
                self._fail()
                if socket.close_code in FINAL:
                    self._deny(DeniedError(f"gateway: {socket.close_reason}"))
                    return
            await asyncio.sleep(backoff.next_ms() / 1000)
            try:
                await self._dial()
                backoff.reset()
            except DeniedError as error:
                self._deny(error)
                return
            except BusError as error:
                log.info("gateway unreachable", reason=str(error))

    async def _listen(self, socket: ClientConnection) -> None:
        """Take in what comes until the connection ends."""
        try:
            async for data in socket:
                self._hear(unpack_frame(data if isinstance(data, bytes) else b""))
        except (ConnectionClosed, WireError, OSError) as error:
            log.info("line broken", reason=str(error))

    def _hear(self, frame: Frame) -> None:
        if isinstance(frame, Entry):
            self._listener.hear(frame)
        elif isinstance(frame, Answer):
            waiting = self._waiting.get(frame.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(frame)

    async def _dial(self) -> None:
        try:
            async with asyncio.timeout(DIAL_S):
                socket = await connect(
                    self._url,
                    additional_headers=self._headers,
                    subprotocols=[Subprotocol(SUBPROTOCOL)],
                    compression=None,
                    max_size=MAX_FRAME_BYTES,
                    ping_interval=PING_S,
                    ping_timeout=PING_S,
                    close_timeout=CLOSE_S,
                )
                try:
                    self.welcome = await self._shake_hands(socket)
                except BaseException:
                    socket.transport.abort()
                    raise
        except (OSError, WebSocketException, WireError) as error:
            raise _fault(self._url, error) from error
        self._socket = socket
        self._places = asyncio.Semaphore(self.welcome.requests)
        self._listener.resume()  # before those who wait
        self._up.set()

    async def _shake_hands(self, socket: ClientConnection) -> Welcome:
        challenge = _expected(await socket.recv(), Challenge)
        await socket.send(pack_frame(self._listener.greet(challenge.nonce)))
        return cast("Welcome", _expected(await socket.recv(), Welcome))

    async def _drop(self) -> None:
        self._up.clear()
        socket, self._socket = self._socket, None
        if socket is not None:
            with contextlib.suppress(WebSocketException, OSError):
                await socket.close()

    def _fail(self) -> None:
        """Tell those who wait that no answer comes."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_broken())

    def _deny(self, error: DeniedError) -> None:
        """Let nobody wait for the line any more."""
        log.error("gateway denied", reason=str(error))
        self._denied = error
        self._up.set()
        self._listener.hang_up()


def _expected(data: str | bytes, kind: type[Any]) -> Any:  # noqa: ANN401 - the kind's instance
    frame = unpack_frame(data if isinstance(data, bytes) else b"")
    if not isinstance(frame, kind):
        raise WireError(f"expected {kind.__name__.lower()}, got {type(frame).__name__.lower()}")
    return frame


def _broken() -> GatewayUnavailableError:
    return GatewayUnavailableError("gateway: the connection broke before an answer came")


def _fault(url: str, error: Exception) -> BusError:
    """Return what a failed connection means."""
    if isinstance(error, ConnectionClosed):
        closed = error.rcvd
        if closed is not None and closed.code in FINAL:
            return DeniedError(f"gateway: {closed.reason}")
        return GatewayUnavailableError(f"gateway at {url}: {closed.reason if closed else 'the connection broke'}")
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if 400 <= status < 500 and status not in PASSING:
            return DeniedError(f"gateway at {url}: expected one that takes devices, got status {status}")
    elif isinstance(error, InvalidURI | WireError | NegotiationError):
        return DeniedError(f"gateway at {url}: expected one that speaks {SUBPROTOCOL}, got {error}")
    elif isinstance(error, SSLCertVerificationError):
        return DeniedError(f"gateway at {url}: expected a certificate that is trusted, got {error}")
    return GatewayUnavailableError(f"gateway at {url}: {str(error) or type(error).__name__}")


def _refusal(refused: Refused) -> BusError:
    if refused.code == RefusedCode.BUSY:
        return BusyError(refused.sentence, refused.retry_after_ms)
    kinds: dict[str, type[BusError]] = {
        RefusedCode.GONE: GoneError,
        RefusedCode.UNAVAILABLE: GatewayUnavailableError,
    }
    return kinds.get(refused.code, DeniedError)(refused.sentence)
