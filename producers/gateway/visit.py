"""One device's connection, from its welcome to its end: requests are answered, followed logs are sent on.

What waits to be sent is bounded: a device that does not take it has its logs read no further and its requests not done,
and is cut off after a while. Nothing is lost by that, as it says where it was when it comes back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from starlette.websockets import WebSocket

from dsdq.bus.sessions import Head, LogEntry, Place
from dsdq.errors import DsdqError, UnavailableError, WireError
from dsdq.settings import Settings
from dsdq.tasks import end_all_of, start_for
from dsdq.telemetry.logs import get_logger
from dsdq.wire.frames import (
    Answer,
    AskWorkers,
    Close,
    Done,
    Entry,
    Follow,
    Followed,
    Frame,
    Publish,
    RefusedCode,
    Request,
    Unfollow,
    Workers,
    pack_frame,
    unpack_frame,
)
from producers.gateway.badges import Badge, EndedError
from producers.gateway.errands import Errands, NotDoneError, refusal
from producers.gateway.logs import Cursor

log = get_logger("devices")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What devices may have of a gateway; see the settings of these names."""

    devices: int
    tenant_devices: int
    sessions: int
    requests: int
    message_bytes: int
    buffer_bytes: int
    hello_s: float
    stall_s: float

    @classmethod
    def of(cls, chosen: Settings) -> Self:
        """Return the bounds that were set."""
        return cls(
            chosen.gateway_devices,
            chosen.gateway_tenant_devices,
            chosen.device_sessions,
            chosen.device_requests,
            chosen.device_message_bytes,
            chosen.device_buffer_bytes,
            chosen.device_hello_ms / 1000,
            chosen.device_stall_ms / 1000,
        )


class Visit:
    """A device that was let in with ``badge``, which may be renewed."""

    def __init__(self, socket: WebSocket, badge: Badge, errands: Errands, bounds: Bounds) -> None:
        self.badge = badge
        self.ended: EndedError | None = None
        self._socket, self._errands, self._bounds = socket, errands, bounds
        self._task = asyncio.current_task()
        self._asked = 0
        self._cursors: dict[str, Cursor] = {}
        self._parked: list[Cursor] = []  # for which there was no room
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._sending = False
        self._room, self._looking = asyncio.Event(), asyncio.Lock()
        self._room.set()
        self._outage: UnavailableError | None = None  # the latest

    async def run(self) -> None:
        """Serve the device until it goes away.

        Raises:
            EndedError: it is to go, or was told to by :meth:`end`.
        """
        try:
            while (data := await received(self._socket)) is not None:
                self._take(_frame(data))
        except asyncio.CancelledError:
            if self.ended is None or self._task is None:
                raise
            self._task.uncancel()
            raise self.ended from None
        finally:
            self._task = None
            for cursor in self._cursors.values():
                cursor.live = False
            await end_all_of(self)

    def end(self, why: EndedError) -> None:
        """End it from outside."""
        if self.ended is None and self._task is not None:
            self.ended = why
            self._task.cancel()

    def put(self, frame: Frame) -> None:
        """Have a frame sent behind those that wait."""
        data = pack_frame(frame)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > self._bounds.buffer_bytes:
            self._room.clear()
        if not self._sending:
            self._sending = True
            start_for(self, self._send())

    def _take(self, frame: Frame) -> None:
        """Begin what a frame asks for. What is followed is settled here, in the order in which frames came."""
        if isinstance(frame, Unfollow):
            self._forget(frame.session)
            return
        if not isinstance(frame, Request):
            raise EndedError(Close.FRAME, f"expected a request, got {type(frame).__name__.lower()}")
        if self._asked >= self._bounds.requests:
            raise EndedError(Close.MANY, f"expected at most {self._bounds.requests} unanswered requests, got more")
        self._asked += 1
        if isinstance(frame, Follow):
            self._forget(frame.session)
            if len(self._cursors) < self._bounds.sessions:
                place = Place(self.badge.producer, self.badge.tenant, frame.session)
                self._cursors[frame.session] = Cursor(place, frame.number, frame.epoch, self._pass_on)
        start_for(self, self._answer(frame, dict(self._cursors)))

    def _forget(self, session: str) -> None:
        cursor = self._cursors.pop(session, None)
        if cursor is not None:
            cursor.live = False

    async def _answer(self, asked: Request, follows: Mapping[str, Cursor]) -> None:
        """Do what was asked when this was followed, and answer."""
        try:
            await self._until_room()
            answer = await self._do(asked, follows)
        except (DsdqError, NotDoneError) as error:
            self.put(refusal(asked.id, error))
        except Exception as error:
            log.exception("request failed", request=type(asked).__name__.lower())
            self.put(refusal(asked.id, NotDoneError(RefusedCode.DENIED, f"internal: {type(error).__name__}")))
        else:
            self.put(answer)
        finally:
            self._asked -= 1

    async def _do(self, asked: Request, follows: Mapping[str, Cursor]) -> Answer:
        if isinstance(asked, AskWorkers):
            return Workers(asked.id, await self._errands.served.entries(asked.model))
        if isinstance(asked, Publish):
            if len(asked.message) > self._bounds.message_bytes:
                sentence = f"expected at most {self._bounds.message_bytes} bytes, got {len(asked.message)}"
                raise NotDoneError(RefusedCode.MALFORMED, sentence)
            await self._errands.publish(self.badge, asked, follows)
            return Done(asked.id)
        return await self._follow(asked, follows.get(asked.session))

    async def _follow(self, asked: Follow, cursor: Cursor | None) -> Followed:
        if cursor is None:
            raise NotDoneError(RefusedCode.TOO_MANY, f"expected at most {self._bounds.sessions} sessions, got more")
        head = await self._look(cursor)
        if head is None:
            return Followed(asked.id, 0)
        return Followed(asked.id, head.epoch, head.worker if head.is_open else "")

    async def _look(self, cursor: Cursor) -> Head | None:
        """Follow into one log after the other, and only while there is room.

        Who waited while another's attempt failed has failed too: during an outage each would take as long again.
        """
        before = self._outage
        async with self._looking:
            if self._outage is not None and self._outage is not before:
                if cursor.live:
                    self._errands.logs.follow(cursor)  # all the same
                raise self._outage
            await self._until_room()
            try:
                return await self._errands.follow(cursor)
            except UnavailableError as error:
                self._outage = error
                raise

    async def _until_room(self) -> None:
        while not self._room.is_set():  # whoever went first may have filled it again
            await self._room.wait()

    def _pass_on(self, cursor: Cursor, entries: Sequence[LogEntry]) -> bool:
        """Send entries of a log; say whether there is room for more."""
        for entry in entries:
            self.put(Entry(cursor.place.session, entry.number, entry.epoch, entry.message))
        if self._room.is_set():
            return True
        self._parked.append(cursor)
        return False

    async def _send(self) -> None:
        """Send what waits; end a device that takes nothing for too long."""
        try:
            while self._out:
                data = self._out.popleft()
                async with asyncio.timeout(self._bounds.stall_s):
                    await self._socket.send_bytes(data)
                self._out_bytes -= len(data)
                if not self._room.is_set() and 2 * self._out_bytes <= self._bounds.buffer_bytes:
                    self._go_on()
        except TimeoutError:
            self.end(EndedError(Close.SLOW, f"a device took nothing of what it follows for {self._bounds.stall_s} s"))
        except Exception as error:  # noqa: BLE001 - it went away: whoever receives is told so too
            log.debug("device went away", reason=str(error))
        finally:
            self._sending = False

    def _go_on(self) -> None:
        """Have logs read on for which there was no room."""
        self._room.set()
        parked, self._parked = self._parked, []
        for cursor in parked:
            self._errands.logs.follow(cursor)


async def received(socket: WebSocket) -> bytes | None:
    """Return the next binary frame of a device, None when it has gone away.

    Raises:
        EndedError: it is a text.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    data = message.get("bytes")
    if data is None:
        raise EndedError(Close.FRAME, "expected binary frames, got a text")
    return bytes(data)


def _frame(data: bytes) -> Frame:
    try:
        return unpack_frame(data)
    except WireError as error:
        raise EndedError(Close.FRAME, str(error)) from error
