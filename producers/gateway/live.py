"""What the service does at the moment, as a stream of events for pages that watch.

However many watch, verifiers' figures are read once a second; while nobody does, they are not read at all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import anyio
from starlette.requests import Request
from starlette.responses import Response

from dsdq.bus.figures import FiguresStore
from dsdq.errors import BusError, DsdqError
from dsdq.tasks import end
from dsdq.telemetry.overview import Overview, Trail
from producers.gateway.doors import Doors
from producers.gateway.texts import Stream, event
from producers.openai.errors import ApiError, api_error, failure

PAUSE_S = 1.0
MOST_WATCHERS, MOST_OF_ONE = 256, 16  # pages at once: of all tenants, of one


class Live:
    """The handler of ``/live``. A tenant sees totals and verifiers, and of all tenants itself."""

    def __init__(self, doors: Doors, figures: FiguresStore, draining: Callable[[], bool]) -> None:
        self._doors, self._figures, self._draining = doors, figures, draining
        self._watchers: Counter[str] = Counter()
        self._reading: asyncio.Task[None] | None = None
        self._said: Overview | ApiError | None = None
        self._news = asyncio.Event()

    async def watch(self, request: Request) -> Response:
        """Answer with events, one for each reading.

        Raises:
            ApiError: the key opens nothing, or as many watch as may.
        """
        tenant = (await self._doors.enter(request)).name
        if self._watchers.total() >= MOST_WATCHERS or self._watchers[tenant] >= MOST_OF_ONE:
            message = "as many pages watch as may; close one, or come back"
            raise ApiError(503, message, "overloaded", kind="server_error", retry_after_s=1)
        async with AsyncExitStack() as held:
            self._enter(tenant)
            held.push_async_callback(self._leave, tenant)
            return Stream(self._events(request), held.pop_all(), drain_s=0)

    def _enter(self, tenant: str) -> None:
        self._watchers[tenant] += 1
        if self._reading is None:
            self._said, self._reading = None, asyncio.create_task(self._read())

    async def _leave(self, tenant: str) -> None:
        self._watchers -= Counter([tenant])  # drops names at 0
        if not self._watchers and self._reading is not None:
            reading, self._reading = self._reading, None
            with anyio.CancelScope(shield=True):  # the client may be gone
                await end(reading)

    async def _read(self) -> None:
        trail = Trail()
        while True:
            try:
                reading = await self._figures.read()
                self._said = trail.add(reading.snapshots, reading.silent)
            except Exception as error:  # noqa: BLE001 - whoever watches is to hear of it, and the next reading may be good
                self._said = api_error(error) if isinstance(error, BusError) else failure(error)
            news, self._news = self._news, asyncio.Event()
            news.set()
            await asyncio.sleep(PAUSE_S)

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        while not self._draining():
            news, said = self._news, self._said
            try:
                tenant = await self._doors.enter(request)  # a key may be rotated while a page watches
                if isinstance(said, Overview):
                    yield event(said.document_for(tenant.name))
                elif said is not None:
                    yield event(said.body)
            except DsdqError as error:
                yield event(api_error(error).body)
                if not api_error(error).may_pass:
                    return
            await news.wait()
