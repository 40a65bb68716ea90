"""Ending background tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.05


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks until every one has ended; their results and errors are dropped.

    Once is not enough: a cancellation that meets a time limit inside a library (redis-py sets one around every look at
    a connection) can be taken for the limit's own and lost.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: asyncio would complain about it otherwise
