"""Calls of one script from many tasks at once, in as few round trips as they need.

A call that comes while another is under way waits for it, and then goes with all that wait. A device process with
hundreds of sessions would otherwise hold a connection for each, and spend more on pipelines than on drafts. A call that
comes alone goes alone, and at once; and where the server is far, none waits for an answer that takes longer than a
wink: what waits then goes too, over another connection. A client that closes ends all of them, and cancels who waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis

from dsdq.bus import scripts
from dsdq.tasks import start_for

MOST_CALLS = 128
WINK_S = 0.002
MOST_UNDER_WAY = 8

_Waiting = tuple[scripts.Call, asyncio.Future[Any]]


class Together:
    """The calls of one script on one client. They may be run in another order than they came."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: deque[_Waiting] = deque()
        self._under_way = 0
        self._alarm: asyncio.TimerHandle | None = None

    async def call(self, redis: Redis, keys: Sequence[str], arguments: Sequence[scripts.Argument]) -> Any:  # noqa: ANN401
        """Run the script and return its answer.

        Raises:
            RedisError: this call failed, or the connection on which all went.
        """
        if self._under_way:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._waiting.append(((keys, arguments), answer))
            self._set_alarm(redis)
            return await answer
        self._under_way += 1
        try:
            return await scripts.call(redis, self._name, keys, arguments)
        finally:
            self._under_way -= 1
            self._begin(redis)

    def _set_alarm(self, redis: Redis) -> None:
        if self._alarm is None and self._under_way < MOST_UNDER_WAY:
            self._alarm = asyncio.get_running_loop().call_later(WINK_S, self._hurry, redis)

    def _hurry(self, redis: Redis) -> None:
        self._alarm = None
        self._begin(redis)

    def _begin(self, redis: Redis) -> None:
        """Send what waits, if anything does."""
        if self._waiting:
            self._under_way += 1
            start_for(redis, self._send(redis))

    async def _send(self, redis: Redis) -> None:
        """Send what waits, and what comes meanwhile."""
        batch: Sequence[_Waiting] = ()
        try:
            while batch := self._next():
                await self._answer(redis, batch)
        except asyncio.CancelledError:
            for _, waiting in (*batch, *self._waiting):
                waiting.cancel()
            raise
        finally:
            self._under_way -= 1

    def _next(self) -> list[_Waiting]:
        """Take out the calls that go now; those that were given up do not go."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < MOST_CALLS:
            call, waiting = self._waiting.popleft()
            if not waiting.done():
                batch.append((call, waiting))
        return batch

    async def _answer(self, redis: Redis, batch: Sequence[_Waiting]) -> None:
        try:
            answers = await scripts.answers_of(redis, self._name, [call for call, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            answers = [error] * len(batch)
        for (_, waiting), answer in zip(batch, answers, strict=True):
            if waiting.done():  # nobody waits any more
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)


_CLIENTS: WeakKeyDictionary[Redis, dict[str, Together]] = WeakKeyDictionary()


async def call(redis: Redis, name: str, keys: Sequence[str], arguments: Sequence[scripts.Argument]) -> Any:  # noqa: ANN401
    """Run one script, together with what other tasks call on this client; see :meth:`Together.call`."""
    scripts_of = _CLIENTS.setdefault(redis, {})
    return await scripts_of.setdefault(name, Together(name)).call(redis, keys, arguments)
