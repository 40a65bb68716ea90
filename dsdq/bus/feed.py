"""A producer's side of its sessions' logs: one blocked read follows them all.

The feed is a trimmed hint. Every entry carries its number in the session's log, so that what is missing is noticed and
read from the log, and what comes twice is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.connection import BLOCK_MS, translated
from dsdq.bus.sessions import read_log
from dsdq.contract import Contract
from dsdq.errors import BusError, GoneError
from dsdq.tasks import end
from dsdq.telemetry.logs import get_logger

log = get_logger("feed")

READ_ENTRIES = 256
RETRY_S = 0.2


class Subscription:
    """One session's messages, each once and in order."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._seen = 0
        self._waiting: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._closed = False

    @property
    def seen(self) -> int:
        """Return the number of the last log entry that was taken in."""
        return self._seen

    def misses(self, number: int) -> bool:
        """Say whether entries before ``number`` have not arrived."""
        return number > self._seen + 1

    def take(self, number: int, message: bytes) -> None:
        """Take in log entry ``number``, unless it came before."""
        if number == self._seen + 1:
            self._seen = number
            self._waiting.append(message)
            self._arrived.set()

    def get_nowait(self) -> bytes | None:
        """Return the next message if it is here."""
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        if not self._waiting and not self._closed:
            self._arrived.clear()
        return message

    async def get(self) -> bytes:
        """Wait for the next message and return it.

        Raises:
            GoneError: the subscription was closed.
        """
        while (message := self.get_nowait()) is None:
            if self._closed:
                msg = f"session {self.contract.session}: expected an open client, it was closed"
                raise GoneError(msg)
            await self._arrived.wait()
        return message

    def close(self) -> None:
        """Let nobody wait for messages any more."""
        self._closed = True
        self._arrived.set()


class FeedReader:
    """Follows one producer's feed and hands each entry to its session's subscription."""

    def __init__(self, redis: Redis, producer: str, tenant: str) -> None:
        self._redis = redis
        self._feed = keys.feed(producer, tenant)
        self._subscriptions: dict[str, Subscription] = {}
        self._last = "0-0"
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin behind the feed's present end."""
        with translated():
            newest = await self._redis.xrevrange(self._feed, count=1)
        if newest:
            self._last = newest[0][0].decode()
        self._reading = asyncio.create_task(self._read_forever())

    async def stop(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            await end(self._reading)

    def subscribe(self, contract: Contract) -> Subscription:
        """Return the messages of a session; subscribe before it opens."""
        subscription = Subscription(contract)
        self._subscriptions[contract.session] = subscription
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a session and end what waits for it."""
        subscription.close()
        self._subscriptions.pop(subscription.contract.session, None)

    async def catch_up(self, subscription: Subscription) -> bool:
        """Read on in the session's log; say whether there was something new."""
        before = subscription.seen
        for number, message in enumerate(await read_log(self._redis, subscription.contract, before), before + 1):
            subscription.take(number, message)
        return subscription.seen > before

    async def _read_forever(self) -> None:
        while True:
            try:
                with translated():
                    answer = await self._redis.xread({self._feed: self._last}, count=READ_ENTRIES, block=BLOCK_MS)
                for _, entries in answer or ():
                    for entry_id, fields in entries:
                        self._last = entry_id.decode()
                        await self._hand_out(fields)
            except BusError as error:
                log.warning("feed interrupted", reason=str(error))
                await asyncio.sleep(RETRY_S)

    async def _hand_out(self, fields: dict[bytes, bytes]) -> None:
        subscription = self._subscriptions.get(fields[b"s"].decode())
        if subscription is None:
            return
        number = int(fields[b"n"])
        if subscription.misses(number):
            await self.catch_up(subscription)
        subscription.take(number, fields[b"m"])
