"""One look for all who ask at once: what it finds is theirs, and so is its failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from dsdq.tasks import end

Found = TypeVar("Found")


class Shared(Generic[Found]):
    """Runs ``look`` for whoever asks. Who comes while one runs waits for that one and starts none after it.

    So where each look fails only after seconds, as in an outage without refusals, everybody is told after one.
    """

    def __init__(self, look: Callable[[], Awaitable[Found]]) -> None:
        self._look = look
        self._running: asyncio.Task[Found] | None = None
        self._waiting = 0

    async def get(self) -> Found:
        """Return what the look finds, or raise what it raises. It ends when nobody waits for it any more."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
            self._waiting = 0
        running = self._running
        self._waiting += 1
        try:
            return await asyncio.shield(running)
        finally:
            if running is self._running:
                self._waiting -= 1
                if not self._waiting and not running.done():
                    self._running = None
                    await end(running)

    async def _run(self) -> Found:
        return await self._look()
