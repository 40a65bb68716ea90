"""Where devices that must not reach Redis come in: a WebSocket that carries the messages of the streams.

Who is let in, how many at once, and for how long: a key that is revoked ends its connections. Those that are not let
in yet have places of their own, so that they take none from devices. Who is ended keeps its place until its socket is
gone for certain: else there could be any number of sockets.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from dsdq.errors import BusError, WireError
from dsdq.telemetry.logs import get_logger
from dsdq.tenants import Tenant
from dsdq.wire.frames import NONCE_BYTES, SUBPROTOCOL, Challenge, Close, Hello, Welcome, pack_frame, unpack_frame
from producers.gateway.badges import Badge, Badges, EndedError
from producers.gateway.errands import Errands
from producers.gateway.metrics import Metrics
from producers.gateway.visit import Bounds, Visit, received
from producers.openai.tenants import FRESH_S, Tenants

log = get_logger("devices")

CLOSE_S = 5.0  # that a device may take for its side of an end
LAST_WORD_S = 1.0  # that a close waits for room
REASON_BYTES = 123


class Ingress:
    """The devices of one gateway, and at most ``strangers`` connections of those that are not let in."""

    def __init__(self, badges: Badges, errands: Errands, bounds: Bounds, metrics: Metrics, *, strangers: int) -> None:
        self._badges, self._errands, self._bounds = badges, errands, bounds
        self._most_strangers = strangers
        self._metrics = metrics
        self._strangers = 0
        self._of_tenant: Counter[str] = Counter()
        self._visits: set[Visit] = set()

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection until it ends."""
        if self._strangers >= self._most_strangers:
            await socket.send_denial_response(PlainTextResponse("too many are not let in yet; come back", 503))
            await asyncio.sleep(0)  # its socket goes at once; else uvicorn takes it for unanswered
            return
        with ExitStack() as place:
            try:
                place.enter_context(self._stranger())
                badge = await self._greet(socket)
                if badge is not None:
                    self._check_room(badge.tenant)
                    place.close()
                    place.enter_context(self._device(badge.tenant))
                    await self._visit(socket, badge)
            except EndedError as error:
                asyncio.get_running_loop().call_later(CLOSE_S, place.pop_all().close)
                await _close(socket, error)
            except WebSocketDisconnect:  # it went away before it was told anything
                log.debug("device went away")

    async def watch(self, tenants: Tenants) -> None:
        """Look for ever whether those who are here may still be, and end those who may not."""
        known: Mapping[str, Tenant] | None = None
        unchecked = list[Visit]()
        while True:
            try:
                records = await tenants.records()
                if records is not known:
                    known, unchecked = records, list(self._visits)
                unchecked = [visit for visit in unchecked if not await self._is_checked(visit)]
            except BusError as error:  # while nobody can say, nobody is sent away
                log.info("devices unchecked", reason=str(error))
            except Exception:  # a defect; keys that are revoked from now on must open nothing all the same
                log.exception("devices unchecked")
            await asyncio.sleep(FRESH_S / 2)

    @contextmanager
    def _stranger(self) -> Iterator[None]:
        """Count a connection that is not let in."""
        self._strangers += 1
        self._show()
        try:
            yield
        finally:
            self._strangers -= 1
            self._show()

    @contextmanager
    def _device(self, tenant: str) -> Iterator[None]:
        """Count a connection that is."""
        self._of_tenant[tenant] += 1
        self._show()
        try:
            yield
        finally:
            self._of_tenant[tenant] -= 1
            self._show()

    def _show(self) -> None:
        self._metrics.devices.set(self._strangers + self._of_tenant.total())

    def _check_room(self, tenant: str) -> None:
        bounds = self._bounds
        if self._of_tenant.total() >= bounds.devices:
            raise EndedError(Close.MANY, f"all {bounds.devices} places of this gateway are taken")
        if self._of_tenant[tenant] >= bounds.tenant_devices:
            raise EndedError(Close.MANY, f"tenant {tenant}: all its {bounds.tenant_devices} places here are taken")

    async def _is_checked(self, visit: Visit) -> bool:
        """End a visit whose device may no longer be here; say whether somebody could say that."""
        try:
            visit.badge = await self._badges.again(visit.badge)
        except EndedError as error:
            if error.close is Close.LATER:
                return False
            visit.end(error)
        except Exception:  # of one device: the others are to be checked
            log.exception("device unchecked", tenant=visit.badge.tenant, producer=visit.badge.producer)
            return False
        return True

    async def _greet(self, socket: WebSocket) -> Badge | None:
        """Return who it is, None if it goes away at once."""
        speaks = SUBPROTOCOL in socket.scope["subprotocols"]
        await socket.accept(SUBPROTOCOL if speaks else None)
        if not speaks:
            raise EndedError(Close.FRAME, f"expected a client that speaks {SUBPROTOCOL}")
        nonce = secrets.token_bytes(NONCE_BYTES)
        await socket.send_bytes(pack_frame(Challenge(nonce)))
        try:
            async with asyncio.timeout(self._bounds.hello_s):
                data = await received(socket)
        except TimeoutError:
            raise EndedError(Close.SLOW, f"expected a hello within {self._bounds.hello_s} s, got none") from None
        if data is None:
            return None
        try:
            hello = unpack_frame(data)
        except WireError as error:
            raise EndedError(Close.FRAME, str(error)) from error
        if not isinstance(hello, Hello):
            raise EndedError(Close.FRAME, f"expected hello, got {type(hello).__name__.lower()}")
        return await self._badges.of(socket, hello, nonce)

    async def _visit(self, socket: WebSocket, badge: Badge) -> None:
        bounds = self._bounds
        visit = Visit(socket, badge, self._errands, bounds)
        self._visits.add(visit)
        try:
            visit.put(Welcome(badge.tenant, bounds.sessions, bounds.requests, bounds.message_bytes))
            await visit.run()
        finally:
            self._visits.discard(visit)


async def _close(socket: WebSocket, error: EndedError) -> None:
    """Tell a device why it has to go, if it listens, and see that it does."""
    asyncio.get_running_loop().call_later(CLOSE_S, socket.state.abort)
    reason = str(error).encode()[:REASON_BYTES].decode(errors="ignore")
    with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):  # it takes nothing, or is gone
        async with asyncio.timeout(LAST_WORD_S):
            await socket.close(error.close, reason)
