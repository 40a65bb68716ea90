"""A verifier that lost its lease comes back under a new id: what it had may be another's by now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dsdq.errors import FencedError, RedisUnavailableError
from dsdq.telemetry.logs import get_logger
from workers.verifier.service import Verifier

log = get_logger("verifier")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


async def serve(make: Callable[[], Verifier], stop: asyncio.Event, on_ready: Callable[[Verifier], None]) -> None:
    """Run one incarnation after the other until ``stop`` is set; ``on_ready`` is told of each that serves.

    Raises:
        DsdqError: what no new incarnation would help against; the first one's failure to reach Redis too.
    """
    served, pause_s = False, FIRST_PAUSE_S
    while not stop.is_set():
        verifier, ready = make(), asyncio.Event()
        running = asyncio.create_task(verifier.run(stop, ready))
        announced = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait([running, announced], return_when=asyncio.FIRST_COMPLETED)
            if ready.is_set():
                served, pause_s = True, FIRST_PAUSE_S
                on_ready(verifier)
            await running
        except (FencedError, RedisUnavailableError) as error:
            if not served:
                raise
            log.warning("incarnation ended", worker=verifier.info.wid, reason=str(error))
            await _pause(stop, pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            announced.cancel()
            running.cancel()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
