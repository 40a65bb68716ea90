"""The two endpoints that generate text. A client that goes away ends its sessions; an error comes before the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any, TypeVar

import anyio
from pydantic_core import to_json
from sse_starlette import EventSourceResponse
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from dsdq.tasks import end
from dsdq.tenants import Tenant
from producers.gateway.metrics import Metrics
from producers.openai.answering import Answer, Answering
from producers.openai.answers import Json
from producers.openai.errors import ApiError, failure, invalid
from producers.openai.requests import parse, read_body

T = TypeVar("T")

MOST_BYTES = 4 << 20
PING_S = 15
CLIENT_GONE = 499  # nginx's: nobody reads it, but it is counted
_DONE = b"data: [DONE]\n\n"


class Texts:
    """Answers requests for text; at most so many at once, and for so long after the gateway was told to stop."""

    def __init__(self, answering: Answering, metrics: Metrics, *, at_once: int, drain_s: float) -> None:
        self._answering, self._metrics = answering, metrics
        self._at_once, self._drain_s = at_once, drain_s
        self._running = 0

    async def serve(self, request: Request, tenant: Tenant, endpoint: str) -> Response:
        """Answer one request.

        Raises:
            ApiError: it cannot be served.
        """
        began_s = monotonic()
        wanted = parse(endpoint, read_body(await read(request)))
        async with AsyncExitStack() as held:
            self._enter()
            held.callback(self._leave)
            answer = await _unless_gone(request, self._answering.begin(tenant, wanted))
            held.push_async_callback(self._close, answer, wanted.model, tenant.name, began_s)
            if wanted.stream:
                return Stream(self._events(answer), held.pop_all(), self._drain_s)
            return JSONResponse(await _unless_gone(request, answer.whole()))

    async def _events(self, answer: Answer) -> AsyncIterator[bytes]:
        """Yield an answer's events; the status is sent, so what goes wrong now is said in the stream."""
        try:
            async for chunk in answer.chunks():
                yield event(chunk)
        except Exception as error:  # noqa: BLE001
            told = error if isinstance(error, ApiError) else failure(error)
            self._metrics.broken_streams.labels(told.status).inc()
            yield event(told.body)
        yield _DONE

    def _enter(self) -> None:
        if self._running >= self._at_once:
            message = f"all {self._at_once} places of this gateway are taken; come back"
            raise ApiError(503, message, "overloaded", kind="server_error", retry_after_s=1)
        self._running += 1
        self._metrics.running.set(self._running)

    def _leave(self) -> None:
        self._running -= 1
        self._metrics.running.set(self._running)

    async def _close(self, answer: Answer, model: str, tenant: str, began_s: float) -> None:
        """End what still runs of an answer, and count what it was."""
        with anyio.CancelScope(shield=True):  # the client may be gone: its sessions are to be told
            await answer.aclose()
        self._count(answer, model, tenant, monotonic() - began_s)

    def _count(self, answer: Answer, model: str, tenant: str, took_s: float) -> None:
        for stats in answer.stats:
            self._metrics.tokens.labels(model, tenant).inc(stats.committed_tokens)
            if stats.committed_tokens:
                self._metrics.first_token_s.labels(model).observe(stats.ttft_ms / 1000)
            if stats.committed_tokens > 1:
                pause_ms = (stats.duration_ms - stats.ttft_ms) / (stats.committed_tokens - 1)
                self._metrics.between_tokens_s.labels(model).observe(pause_ms / 1000)
        self._metrics.whole_s.labels(model).observe(took_s)


class Stream(EventSourceResponse):
    """A stream of events that lets go of what it ``held`` however it ends, even before it began."""

    def __init__(self, events: AsyncIterator[bytes], held: AsyncExitStack, drain_s: float) -> None:
        super().__init__(events, ping=PING_S, sep="\n", shutdown_grace_period=drain_s)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events, and let go."""
        async with self._held:
            await super().__call__(scope, receive, send)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what ``work`` returns; end it when the client goes away.

    Raises:
        ApiError: the client went away.
    """
    working, going = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, going), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(CLIENT_GONE, "the client went away", kind="client_closed_request")
    finally:
        await end(working, going)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read(request: Request, most_bytes: int = MOST_BYTES) -> bytes:
    """Return a request's body.

    Raises:
        ApiError: it is longer than ``most_bytes``, or the client went away.
    """
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > most_bytes:
                raise ApiError(413, f"expected a body of at most {most_bytes} bytes, got more", "request_too_large")
    except ClientDisconnect:
        raise invalid("the client went away before its request was whole") from None
    return bytes(body)


def event(content: Json) -> bytes:
    """Return one event of a stream."""
    return b"data: " + to_json(content) + b"\n\n"
