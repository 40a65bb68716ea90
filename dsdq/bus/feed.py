"""A producer's side of its sessions' logs: one blocked read follows them all.

The feed is a trimmed hint. Every entry carries its number in the session's log, so that what is missing is noticed and
read from the log, and what comes twice is dropped.

Over a slow link, what is appended between an answer's departure and the next read's arrival waits a whole round trip
for that. Where a session awaits several answers, lookouts wait for each of them: a log's entries are numbered, so the
second next one can be asked for before the next is here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.connection import BLOCK_MS, translated
from dsdq.bus.sessions import LogEntry, log_entry, place_of, read_head, read_news
from dsdq.contract import Contract
from dsdq.errors import BusError, DeniedError, GoneError
from dsdq.tasks import end, run_all
from dsdq.telemetry.logs import get_logger

log = get_logger("feed")

READ_ENTRIES = 256
RETRY_S = 0.2
LOOKOUTS = 8  # each has a connection
IN_STEP_S = 0.003  # the feed gives no later what a lookout has shown, unless its read was under way


class Subscription:
    """One session's messages, each once and in order.

    A log that lost its end, because Redis lost its last writes, goes on with lower numbers under a higher epoch.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.awaited = 0  # answers to look out for
        self.watched: set[int] = set()  # log entries that lookouts wait for
        self._ahead: dict[int, LogEntry] = {}
        self._fed = 0
        self._seen = 0
        self._epoch = 0
        self._waiting: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def seen(self) -> int:
        """Return the number of the last log entry that was taken in."""
        return self._seen

    @property
    def epoch(self) -> int:
        """Return the epoch of the last log entry that was taken in."""
        return self._epoch

    @property
    def waits(self) -> bool:
        """Say whether a message is here that nobody has got yet."""
        return bool(self._waiting)

    def awaits(self, number: int) -> bool:
        """Say whether a log entry is among the answers that are to be looked out for."""
        return self._seen < number <= self._seen + self.awaited

    def unwatched(self) -> list[int]:
        """Return the numbers of awaited log entries that no lookout waits for yet.

        None where there is a single one, for which the feed is enough, unless that comes late to what was shown.
        """
        if self.awaited < 2 and self._fed >= self._seen:
            return []
        numbers = range(self._seen + 1, self._seen + 1 + self.awaited)
        return [number for number in numbers if number not in self.watched]

    def misses(self, entry: LogEntry) -> bool:
        """Say whether entries before this one may not have arrived.

        Under a higher epoch its number does not tell: the log may have lost its end and have grown again since.
        """
        return entry.number > self._seen + 1 or 0 < self._epoch < entry.epoch

    def take(self, entry: LogEntry) -> None:
        """Take in a log entry, unless it came before."""
        regrown = entry.epoch > self._epoch and entry.number <= self._seen
        if entry.number == self._seen + 1 or regrown:
            self._seen, self._epoch = entry.number, entry.epoch
            self._waiting.append(entry.message)
            self._wake()
            self._take_ahead()

    def feed(self, entry: LogEntry) -> None:
        """Take in a log entry that the feed gave."""
        self._fed = entry.number
        self.take(entry)

    def sight(self, entry: LogEntry) -> None:
        """Take in a log entry that may have come before those in front of it: it waits for them."""
        if self._epoch in (0, entry.epoch) and self._seen < entry.number <= self._seen + LOOKOUTS:
            self._ahead[entry.number] = entry
            self._take_ahead()

    def _take_ahead(self) -> None:
        entry = self._ahead.pop(self._seen + 1, None)
        self._ahead = {number: one for number, one in self._ahead.items() if number > self._seen}
        if entry is not None and entry.epoch == self._epoch:
            self.take(entry)

    def get_nowait(self) -> bytes | None:
        """Return the next message if it is here."""
        return self._waiting.popleft() if self._waiting else None

    async def get(self, timeout_s: float) -> bytes:
        """Wait for the next message and return it; one task at a time may wait.

        Raises:
            GoneError: the subscription was closed.
            TimeoutError: no message came in time.
        """
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        while (message := self.get_nowait()) is None:
            if self._closed:
                msg = f"session {self.contract.session}: expected an open client, it was closed"
                raise GoneError(msg)
            if loop.time() >= ends_s:
                raise TimeoutError
            self._waiter = loop.create_future()
            alarm = loop.call_at(ends_s, self._wake)
            try:
                await self._waiter
            finally:
                alarm.cancel()
        return message

    def close(self) -> None:
        """Let nobody wait for messages any more."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class FeedReader:
    """Follows one producer's feed and hands each entry to its session's subscription."""

    def __init__(self, redis: Redis, producer: str, tenant: str) -> None:
        self._redis = redis
        self._feed = keys.feed(producer, tenant)
        self._subscriptions: dict[str, Subscription] = {}
        self._last = "0-0"
        self._reading: list[asyncio.Task[None]] = []
        self._lookouts: dict[asyncio.Task[None], tuple[Subscription, int]] = {}

    async def start(self) -> None:
        """Begin behind the feed's present end."""
        with translated():
            newest = await self._redis.xrevrange(self._feed, count=1)
        if newest:
            self._last = newest[0][0].decode()
        self._reading = [asyncio.create_task(self._read_forever())]

    async def stop(self) -> None:
        """Stop reading."""
        await end(*self._reading, *self._lookouts)

    async def prepare(self, connections: int) -> None:
        """Have so many connections open: making one takes several round trips, and then an answer would wait for it."""
        ends = {self._feed: "$"}
        with contextlib.suppress(BusError), translated():
            await run_all(*(self._redis.xread(ends) for _ in range(connections)))

    def subscribe(self, contract: Contract) -> Subscription:
        """Return the messages of a session; subscribe before it opens."""
        subscription = Subscription(contract)
        self._subscriptions[contract.session] = subscription
        return subscription

    def look_ahead(self, subscription: Subscription, answers: int) -> None:
        """Read ahead for so many answers of a session."""
        subscription.awaited = answers
        if answers > 1:
            self._look_out(subscription)
        elif answers:
            asyncio.get_running_loop().call_later(IN_STEP_S, self._look_out, subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a session and end what waits for it."""
        subscription.close()
        subscription.awaited = 0
        self._subscriptions.pop(subscription.contract.session, None)

    async def catch_up(self, subscription: Subscription) -> bool:
        """Read on in the session's log; say whether there was something new.

        Raises:
            GoneError: there is no log any more.
        """
        before, place = (subscription.epoch, subscription.seen), place_of(subscription.contract)
        for entry in await read_news(self._redis, place, subscription.seen, subscription.epoch):
            subscription.feed(entry)
        return (subscription.epoch, subscription.seen) > before

    async def owner(self, subscription: Subscription) -> str | None:
        """Return the verifier that owns a session now, None if none does."""
        head = await read_head(self._redis, place_of(subscription.contract))
        return head.worker if head is not None and head.is_open else None

    async def _read_forever(self) -> None:
        while True:
            try:
                with translated():
                    answer = await self._redis.xread({self._feed: self._last}, count=READ_ENTRIES, block=BLOCK_MS)
                for _, entries in answer or ():
                    for entry_id, fields in entries:
                        self._last = entry_id.decode()
                        await self._hand_out(fields)
                await asyncio.sleep(0)  # asking for more takes time: whoever was answered goes first
            except DeniedError as error:
                log.error("feed denied", reason=str(error))  # noqa: TRY400 - it says all there is to say
                for subscription in self._subscriptions.values():
                    subscription.close()
                return
            except BusError as error:
                log.warning("feed interrupted", reason=str(error))
                await asyncio.sleep(RETRY_S)

    def _look_out(self, subscription: Subscription) -> None:
        """Send lookouts, as far as there are any, for what a session awaits; sessions share them evenly."""
        sessions = sum(bool(one.awaited) for one in self._subscriptions.values())
        part = max(1, LOOKOUTS // max(1, sessions))
        free = LOOKOUTS - sum(whose.awaits(number) for whose, number in self._lookouts.values())
        mine = sum(subscription.awaits(number) for number in subscription.watched)
        for number in subscription.unwatched()[: max(0, min(free, part - mine))]:
            subscription.watched.add(number)
            lookout = asyncio.create_task(self._wait_for(subscription, number))
            self._lookouts[lookout] = subscription, number
            lookout.add_done_callback(lambda ended: self._lookouts.pop(ended, None))

    async def _wait_for(self, subscription: Subscription, number: int) -> None:
        """Wait for one log entry of a session while it may come, unless the feed gives it first."""
        place, answer = place_of(subscription.contract).log, None
        with contextlib.suppress(BusError), translated():  # the feed's reader says what is wrong
            while not answer and subscription.awaits(number):
                answer = await self._redis.xread({place: f"{number - 1}-0"}, count=1, block=BLOCK_MS)
        subscription.watched.discard(number)
        for _, entries in answer or ():
            for entry_id, fields in entries:
                subscription.sight(log_entry(entry_id, fields))

    async def _hand_out(self, fields: dict[bytes, bytes]) -> None:
        subscription = self._subscriptions.get(fields[b"s"].decode())
        if subscription is None:
            return
        entry = LogEntry(int(fields[b"n"]), int(fields[b"e"]), fields[b"m"])
        if subscription.misses(entry):
            with contextlib.suppress(GoneError):
                await self.catch_up(subscription)
        subscription.feed(entry)
