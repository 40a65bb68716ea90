"""A whole service inside the test: a real Redis, a real verifier, real devices, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from dsdq.settings import Settings
from workers.verifier.assembly import assemble
from workers.verifier.service import Verifier

Serve = Callable[..., AbstractAsyncContextManager[Verifier]]


@pytest.fixture
def serve(redis_url: str) -> Serve:
    """Return a context manager that serves a target at ``redis_url`` for the length of its block."""

    @asynccontextmanager
    async def run(target: str | Path, **changed: object) -> AsyncIterator[Verifier]:
        chosen = Settings(redis_url=redis_url, **changed)  # type: ignore[arg-type]
        stop, ready = asyncio.Event(), asyncio.Event()
        async with assemble(redis_url, str(target), "cpu", "float32", chosen) as verifier:
            serving = asyncio.create_task(verifier.run(stop, ready))
            announced = asyncio.create_task(ready.wait())
            await asyncio.wait([serving, announced], return_when=asyncio.FIRST_COMPLETED)
            announced.cancel()
            test = asyncio.current_task()
            # A verifier that ends by itself ends the test, instead of leaving its devices waiting.
            serving.add_done_callback(lambda _: test.cancel() if test and not stop.is_set() else None)
            try:
                yield verifier
            finally:
                stop.set()
                await serving

    return run
