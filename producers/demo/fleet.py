"""The demo's processes: one Redis, one verifier, some devices; all end with this one."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace

from dsdq.errors import ModelError
from dsdq.processes import spawn
from dsdq.testing.proxy import FaultProxy, Faults, Line
from producers.demo.events import Event, from_line

READY = "ready"
VERIFIER_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """What one device process is told, as JSON on its command line."""

    device: int
    url: str
    draft: str
    prompts: dict[int, str]
    max_tokens: int
    window: int
    depth: int
    temperature: float
    seed: int

    def at(self, url: str) -> Job:
        """Return the job with the service's address."""
        return replace(self, url=url)


@asynccontextmanager
async def network(url: str, rtt_ms: float) -> AsyncIterator[str]:
    """Give the address at which devices reach ``url`` over a link with this round trip time."""
    if not rtt_ms:
        yield url
        return
    line = Line(delay_ms=rtt_ms / 2)
    async with FaultProxy(url, random.Random(0), Faults(up=line, down=line)) as proxy:  # noqa: S311 - draws nothing
        yield proxy.url


@asynccontextmanager
async def verifier(url: str, target: str) -> AsyncIterator[str]:
    """Run a verifier process while the block runs; enter, with what it said, once it serves.

    Raises:
        ModelError: it ended, or said nothing, before it was ready; its own words are on standard error.
    """
    process = await spawn([sys.executable, "-m", "dsdq", "verifier", "--redis", url, "--target", target], stdout=True)
    try:
        async with asyncio.timeout(VERIFIER_START_S):
            line = await process.read_line()
        if not line.startswith(READY):
            msg = "the verifier process ended before it was ready; what it said is above"
            raise ModelError(msg)
        yield line.strip()
    finally:
        await process.stop()


async def devices(jobs: list[Job]) -> AsyncIterator[Event]:
    """Run one process per job and yield what they say, as they say it, until all have ended."""
    events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def _run(job: Job) -> None:
        process = await spawn([sys.executable, "-m", "producers.demo.device", json.dumps(asdict(job))], stdout=True)
        try:
            while line := await process.read_line():
                events.put_nowait(from_line(line))
        finally:
            await process.stop()
            events.put_nowait(None)

    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_run(job))
        running = len(jobs)
        while running:
            event = await events.get()
            if event is None:
                running -= 1
            else:
                yield event
