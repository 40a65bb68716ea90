"""The thread that runs the model, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from workers.engine.protocol import RoundEngine
from workers.engine.rounds import Judged, Judgement
from workers.engine.rows import Row

T = TypeVar("T")


class EngineThread:
    """The one thread that makes and owns the engine.

    No other thread of the process may compute with torch: each would get OpenMP threads of its own, and once there are
    more of those than cores, OpenMP puts them to sleep between any two operations (a small model then takes twice as
    long).
    """

    engine: RoundEngine

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    async def start(self, make: Callable[[], RoundEngine]) -> None:
        """Make the engine."""
        self.engine = await self.run(make)

    async def verify(self, rows: Sequence[Row], rounds: Sequence[Judged], secret: int) -> list[Judgement]:
        """Run one pass; see :meth:`workers.engine.protocol.RoundEngine.verify`. A brief one is not worth a hop."""
        if self.engine.brief:
            return self.engine.verify(rows, rounds, secret)
        return await self.run(self.engine.verify, rows, rounds, secret)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function on the engine's thread, behind what runs there now."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def stop(self) -> None:
        """Wait for what runs and end the thread."""
        self._pool.shutdown(wait=True)
