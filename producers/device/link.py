"""One session's two directions: requests go into the owner's inbox, answers come from the session's log, in order."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from time import monotonic

from redis.asyncio import Redis

from dsdq.bus.feed import FeedReader, Subscription
from dsdq.bus.inbox import publish
from dsdq.client import GenerationStats
from dsdq.contract import Contract
from dsdq.errors import BusError, BusyError, RedisUnavailableError, RefusedError, SessionError
from dsdq.telemetry.logs import get_logger
from dsdq.wire import (
    Cancel,
    Closed,
    Decode,
    Draft,
    Error,
    ErrorCode,
    Gap,
    Message,
    Open,
    Opened,
    Verdict,
    pack,
    pack_contract,
    unpack,
)

log = get_logger("device")

RETRY_MS = 200
CANCEL_TRIES_S = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a device waits, in milliseconds: for an open, for a verdict before it repeats, for any answer at all."""

    open_ms: int
    verdict_ms: int
    give_up_ms: int


class SessionLink:
    """Speaks for one session. A request is repeated until it is answered; its answer is in the log at most once."""

    def __init__(self, redis: Redis, feed: FeedReader, worker: str, patience: Patience, stats: GenerationStats) -> None:
        self.contract_bytes = b""
        self._redis = redis
        self._feed = feed
        self._worker = worker
        self._patience = patience
        self._stats = stats
        self._contract: Contract | None = None
        self._subscription: Subscription | None = None
        self._request = b""
        self._opens = False
        self._log = log.bind(worker=worker)

    async def open(self, contract: Contract, prompt: tuple[int, ...]) -> Opened:
        """Open the session with its verifier.

        Raises:
            RefusedError: the verifier said no, and why.
            SessionError: no answer came.
        """
        self._contract = contract
        self._log = self._log.bind(session=contract.session)
        self.contract_bytes = pack_contract(contract)
        self._subscription = self._feed.subscribe(contract)
        await self._publish(pack(Open(contract.session, self.contract_bytes, prompt)), opens=True)
        message = await self._next(self._patience.open_ms)
        if isinstance(message, Error):
            raise RefusedError(message.code, message.message)
        if not isinstance(message, Opened):
            raise _unexpected(message, "opened")
        return message

    async def ask(self, request: Draft | Decode) -> None:
        """Publish a round."""
        self._log = self._log.bind(round=request.round)
        await self._publish(pack(request))

    async def answer(self) -> Verdict | Closed:
        """Return the next verdict, or the close; repeat the request while none comes.

        Raises:
            SessionError: the session failed, or nothing answered for ``give_up_ms``.
        """
        while isinstance(message := await self._next(self._patience.verdict_ms), Gap):
            self._log.info("gap", expected=message.expected)
        return _verdict_or_close(message)

    def closed(self) -> Closed | None:
        """Return the close if it is already here: it is appended together with the last verdict."""
        payload = self._subscription.get_nowait() if self._subscription is not None else None
        if payload is None:
            return None
        message = _verdict_or_close(self._received(payload))
        if isinstance(message, Verdict):
            raise _unexpected(message, "nothing before the next round")
        return message

    async def close(self, *, cancel: bool) -> None:
        """Stop following the session; with ``cancel``, tell the verifier that nobody waits for it."""
        if self._subscription is None or self._contract is None:
            return
        self._feed.unsubscribe(self._subscription)
        self._subscription = None
        if cancel:
            with contextlib.suppress(BusError, TimeoutError):  # a verifier that is gone has nothing to cancel
                async with asyncio.timeout(CANCEL_TRIES_S):
                    await self._publish(pack(Cancel(self._contract.session)))

    async def _next(self, wait_ms: int) -> Message:
        subscription = self._subscription
        if subscription is None:
            msg = "the session is not open"
            raise SessionError(ErrorCode.INTERNAL, msg)
        asked = monotonic()
        while True:
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    payload = await subscription.get()
            except TimeoutError:
                await self._ask_again(subscription, asked)
                continue
            return self._received(payload)

    def _received(self, payload: bytes) -> Message:
        self._stats.bytes_down += len(payload)
        return unpack(payload)

    async def _ask_again(self, subscription: Subscription, asked: float) -> None:
        waited_ms = 1000 * (monotonic() - asked)
        if waited_ms >= self._patience.give_up_ms:
            msg = f"expected an answer from verifier {self._worker}, none came for {waited_ms / 1000:.0f} s"
            raise SessionError(ErrorCode.NO_ANSWER, msg)
        try:
            if await self._feed.catch_up(subscription):
                return
        except RedisUnavailableError as error:
            self._log.warning("log unreadable", reason=str(error))
            return
        self._log.info("repeat", waited_ms=round(waited_ms))
        self._stats.repeats += 1
        await self._publish(self._request, opens=self._opens)

    async def _publish(self, request: bytes, *, opens: bool = False) -> None:
        self._request, self._opens = request, opens
        tenant = self._contract.tenant if self._contract else ""
        deadline = monotonic() + self._patience.give_up_ms / 1000
        while True:
            try:
                await publish(self._redis, self._worker, tenant, request, opens=opens)
            except (BusyError, RedisUnavailableError) as error:
                if monotonic() > deadline:
                    raise
                retry_ms = error.retry_after_ms if isinstance(error, BusyError) else RETRY_MS
                await asyncio.sleep(retry_ms / 1000)
                continue
            self._stats.bytes_up += len(request)
            return


def _verdict_or_close(message: Message) -> Verdict | Closed:
    if isinstance(message, Error):
        raise SessionError(message.code, message.message)
    if not isinstance(message, Verdict | Closed):
        raise _unexpected(message, "a verdict")
    return message


def _unexpected(message: Message, expected: str) -> SessionError:
    return SessionError(ErrorCode.INTERNAL, f"expected {expected}, got {type(message).__name__.lower()}")
