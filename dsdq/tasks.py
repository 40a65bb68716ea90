"""Ending background tasks for certain, and with whom they work for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

AGAIN_S = 0.05

_RUNNING: WeakKeyDictionary[object, set[asyncio.Task[Any]]] = WeakKeyDictionary()


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


async def run_all(*work: Coroutine[Any, Any, Any]) -> None:
    """Run all at once until every one has ended; the first error ends the others and is raised as it is."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end(*tasks)


def start_for(owner: object, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` in a task that :func:`end_all_of` its owner ends."""
    running = _RUNNING.setdefault(owner, set())
    task = asyncio.create_task(work)
    running.add(task)
    task.add_done_callback(running.discard)


async def end_all_of(owner: object) -> None:
    """End every task that runs for ``owner``, those too that begin meanwhile."""
    while running := _RUNNING.get(owner):
        await end(*running)
