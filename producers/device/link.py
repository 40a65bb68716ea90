"""One session's two directions: requests go into the owner's inbox, answers come from the session's log, in order.

Requests are repeated until they are answered; an answer is in the log at most once. Several may wait for theirs. Who
owns the session may change at any time: the new owner says so in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from time import monotonic

from structlog.typing import FilteringBoundLogger

from dsdq.bus.feed import Subscription
from dsdq.client import GenerationStats
from dsdq.contract import Contract
from dsdq.errors import (
    BusError,
    BusyError,
    ConfigError,
    DsdqError,
    GoneError,
    QuotaError,
    RefusedError,
    SessionError,
    UnavailableError,
)
from dsdq.policies.reading import is_far
from dsdq.policies.retry import LEAST_TIMEOUT_MS, LONGEST_RETRY_MS, RETRY_MS, AnswerTimeout, Backoff
from dsdq.tasks import run_all
from dsdq.telemetry import traces
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
from producers.device.patience import Clock, Patience
from producers.device.way import Way

log = get_logger("device")

CANCEL_TRIES_S = 5.0
OPEN_ROUND = 0  # rounds count from 1


@dataclass(slots=True)
class _Asked:
    """A request that waits for its answer, when it was first sent and when last; a grant has many answers."""

    request: bytes
    at_s: float  # monotonic
    sent_s: float
    grants: bool = False
    repeated: bool = False


class SessionLink:
    """Speaks for one session. ``find_worker`` gives a verifier that takes new sessions.

    ``round_trip_ms`` is what a round trip takes as far as is known before the first publication. ``link_ms`` is the
    latest publication's, None until there is one; whoever reads it may clear it.
    """

    def __init__(
        self,
        way: Way,
        find_worker: Callable[[], Awaitable[str]],
        patience: Patience,
        stats: GenerationStats,
        rng: random.Random,
        round_trip_ms: float = 0.0,
    ) -> None:
        self._way = way
        self._find_worker = find_worker
        self._worker = ""
        self._patience = patience
        self._stats = stats
        self._rng = rng
        self._timeout = AnswerTimeout(LEAST_TIMEOUT_MS, patience.verdict_ms)
        self._clock = Clock(patience)
        self._contract: Contract | None = None
        self._subscription: Subscription | None = None
        self._closed = False
        self._asked: dict[int, _Asked] = {}  # by round; 0 is the open
        self._sent = False  # a verifier may have heard of the session
        self._comes_along = False  # a round, with the open that waits for its answer
        self._next_up: Message | None = None  # was looked at and is still to be taken
        self._read_s = 0.0  # when the last answer was taken
        self._length = 0
        self.waited_ms = 0.0
        self.link_ms: float | None = None
        self._last_link_ms = round_trip_ms
        self._about: dict[str, object] = {}

    @property
    def log(self) -> FilteringBoundLogger:
        """Return a logger that says of which session and round it speaks."""
        return log.bind(**self._about)

    async def open(
        self, contract: Contract, prompt: tuple[int, ...], worker: str, first: Draft | Decode | None = None
    ) -> Opened:
        """Open the session, with ``worker`` if that still takes it; ``first`` goes along and is asked for with it.

        Raises:
            RefusedError: the verifier said no, and why.
            SessionError: no answer came in time.
            BusyError: every verifier stayed full.
            GoneError: the link was closed.
        """
        if self._closed:
            raise GoneError("expected an open generation, it was closed")
        self._contract, self._worker, self._length = contract, worker, len(prompt)
        self._about["session"] = contract.session
        self._subscription, self._comes_along = self._way.subscribe(contract), first is not None
        opening = Open(contract.session, pack_contract(contract), prompt)
        request = pack(opening if first is None else opening.with_round(first), contract.version)
        await self._ask(OPEN_ROUND, request)
        message = await self._next()
        if isinstance(message, Error):
            raise _refusal(message)
        if not isinstance(message, Opened):
            raise _unexpected(message, "opened")
        self._worker = message.worker
        self._asked, self._comes_along = {}, False
        if first is not None and message.with_round:
            self._await(first)
        elif first is not None:  # a verifier that does not know of rounds that come with an open
            await self.ask(first)
        return message

    async def ask(self, request: Draft | Decode) -> None:
        """Publish a round. Until :meth:`keep` leaves it out, it waits for an answer, and is repeated."""
        self._about["round"] = request.round
        packed = pack(request, self._subscribed.contract.version)
        await self._ask(request.round, packed, grants=isinstance(request, Decode))

    def _await(self, first: Draft | Decode) -> None:
        """Wait for the answer to a round that went along with the ``open`` and had its place, it seems, a trip ago."""
        self._about["round"] = first.round
        packed, sent_s = pack(first, self._subscribed.contract.version), monotonic() - self._last_link_ms / 1000
        self._asked[first.round] = _Asked(packed, sent_s, sent_s, isinstance(first, Decode))
        self._look_ahead()

    def keep(self, rounds: Collection[int]) -> None:
        """Forget all rounds but these: they were answered, or nobody wants to know any more."""
        self._asked = {round_: asked for round_, asked in self._asked.items() if round_ in rounds}
        self._look_ahead()

    async def answer(self) -> Verdict | Closed | Opened:
        """Return the next verdict, or the close; repeat what was asked while none comes.

        ``Opened`` where a verifier took over whose log is shorter than this device's text: Redis lost its last writes.
        Afterwards ``waited_ms`` says how long the verdict took: from its first round's publication, or from the verdict
        before it if that came later and was a grant's too.

        Raises:
            SessionError: the session failed, nothing answered for ``give_up_ms``, or the deadline has passed.
        """
        while True:
            message = await self._next()
            if isinstance(message, Opened):
                if self._follow(message):
                    return message
                await self._repeat()
            elif isinstance(message, Gap):
                self.log.info("gap", expected=message.expected)
                await self._repeat(monotonic() - self._last_link_ms / 1000)  # the verifier did not know of later ones
            else:
                return self._verdict_or_close(message)

    def closed(self) -> Closed | Opened | None:
        """Return the close if it is the next thing here: it is appended together with the last verdict.

        ``Opened`` as :meth:`answer` gives it. Another new owner, between two rounds, gets the next one.
        """
        while (message := self._peek()) is not None:
            if self._asked and not isinstance(message, Closed | Error):
                return None  # for who waits for an answer
            self._next_up = None
            if isinstance(message, Opened) and self._follow(message):
                return message
            if isinstance(message, Opened | Gap):
                continue
            answer = self._verdict_or_close(message)
            if isinstance(answer, Verdict):
                raise _unexpected(answer, "nothing before the next round")
            return answer
        return None

    def rewind(self, length: int) -> None:
        """Know that the text has only ``length`` tokens now: Redis lost the rest."""
        self._length = length

    def _peek(self) -> Message | None:
        if self._next_up is None and self._subscription is not None:
            payload = self._subscription.get_nowait()
            self._next_up = None if payload is None else self._received(payload)
        return self._next_up

    def _follow(self, message: Opened) -> bool:
        """Turn to a new owner; say whether Redis lost what this device has seen."""
        self._worker = message.worker
        self._stats.takeovers += 1
        self.log.info("new owner", worker=message.worker, epoch=message.epoch)
        return message.length < self._length

    async def close(self, *, cancel: bool) -> None:
        """Stop following the session; with ``cancel``, tell the verifier that nobody waits for it."""
        self._closed = True
        if self._subscription is None or self._contract is None:
            return
        subscription, self._subscription = self._subscription, None
        subscription.close()
        self._way.look_ahead(subscription, 0)
        try:
            if cancel and self._sent:
                with contextlib.suppress(DsdqError, TimeoutError):  # what cannot be told expires
                    async with asyncio.timeout(CANCEL_TRIES_S):
                        await self._publish(pack(Cancel(self._contract.session), self._contract.version), subscription)
        finally:
            self._way.unsubscribe(subscription)

    # Asking

    async def _ask(self, round_: int, request: bytes, *, grants: bool = False) -> None:
        now_s = monotonic()
        self._asked[round_] = _Asked(request, now_s, now_s, grants)
        self._look_ahead()
        await self._publish(request, self._subscribed, opens=round_ == OPEN_ROUND)

    def _look_ahead(self) -> None:
        """Have answers looked ahead for if several are to come, one by one, over a link on which a read is long."""
        if self._subscription is not None:
            drafts = not any(asked.grants for asked in self._asked.values())
            answers = len(self._asked) + self._comes_along
            self._way.look_ahead(self._subscription, answers if drafts and is_far(self._last_link_ms) else 0)

    async def _repeat(self, before_s: float = math.inf) -> None:
        """Publish again, all at once, what waits for an answer and was last sent before then."""
        unanswered = [(round_, asked) for round_, asked in sorted(self._asked.items()) if asked.sent_s < before_s]
        for _, asked in unanswered:
            asked.repeated, asked.sent_s = True, monotonic()
        self._stats.repeats += len(unanswered)
        subscription = self._subscribed
        await run_all(
            *(self._publish(asked.request, subscription, opens=round_ == OPEN_ROUND) for round_, asked in unanswered)
        )

    async def _next(self) -> Message:
        """Return the next message; repeat what was asked while none comes, ever more rarely."""
        if (message := self._peek()) is not None:
            self._next_up = None
            return message
        backoff: Backoff | None = None
        silent_since = monotonic()
        wait_ms = self._timeout.ms
        while True:
            self._clock.check(silent_since, self._worker)
            try:
                return self._received(await self._subscribed.get(self._clock.within(wait_ms) / 1000))
            except TimeoutError:
                backoff = backoff or Backoff(self._rng, self._timeout.ms, self._patience.verdict_ms)
                wait_ms = self._timeout.ms + backoff.next_ms()
            if not await self._catch_up():
                self.log.info("repeat", waited_ms=round(1000 * (monotonic() - silent_since)))
                await self._follow_owner()
                await self._repeat()

    def _received(self, payload: bytes) -> Message:
        self._stats.bytes_down += len(payload)
        return unpack(payload)

    def _verdict_or_close(self, message: Message) -> Verdict | Closed:
        if isinstance(message, Error):
            raise SessionError(message.code, message.message)
        if not isinstance(message, Verdict | Closed):
            raise _unexpected(message, "a verdict")
        now_s = monotonic()
        if isinstance(message, Verdict):
            asked = self._asked.get(message.first_round)
            if asked is not None:
                # From a grant's second verdict on it is the last one that was waited from.
                since_s = max(asked.at_s, self._read_s) if asked.grants else asked.at_s
                self.waited_ms = 1000 * (now_s - since_s)
                if not asked.repeated:
                    self._timeout.observe(self.waited_ms)
                traces.record_round(message, since_s)
            self._length = message.length
        self._read_s = now_s
        return message

    async def _catch_up(self) -> bool:
        """Read on in the log; say whether there is something new, or nothing could be known."""
        try:
            return await self._way.catch_up(self._subscribed)
        except GoneError as error:
            raise SessionError(ErrorCode.EXPIRED, str(error)) from error
        except UnavailableError as error:
            self.log.warning("log unreadable", reason=str(error))
            return True

    async def _publish(self, request: bytes, subscription: Subscription, *, opens: bool = False) -> None:
        """Put a request into the owner's inbox, as soon as there is an owner with room."""
        contract, began_s, refusals = subscription.contract, monotonic(), 0
        backoff = Backoff(self._rng, RETRY_MS, LONGEST_RETRY_MS)
        while True:
            sent_s = monotonic()
            try:
                await self._way.publish(self._worker, contract, request, opens=opens)
            except BusyError as error:
                pause_ms = error.retry_after_ms * self._rng.uniform(0.5, 1.5)
                if opens and self._asked[OPEN_ROUND].repeated:
                    return  # it may well wait there already; if not, it is repeated again
                if opens:
                    refusals += 1
                    pause_ms *= refusals  # who is refused again is one of many
                    self._clock.check_busy(error, self._asked[OPEN_ROUND].at_s, pause_ms)
                    await self._look_for_owner(subscription, opens=opens)
            except GoneError:
                if self._subscription is not None:
                    await self._catch_up()
                    if subscription.waits:
                        return  # the answer came another way; or a new owner's word, upon which the round is repeated
                await self._look_for_owner(subscription, opens=opens)
                pause_ms = backoff.next_ms()
            except UnavailableError:
                self._sent = True
                pause_ms = backoff.next_ms()
            else:
                self._sent = True
                self.link_ms = self._last_link_ms = 1000 * (monotonic() - sent_s)
                self._stats.bytes_up += len(request)
                return
            self._clock.check(began_s, self._worker)
            await asyncio.sleep(self._clock.within(pause_ms) / 1000)

    async def _follow_owner(self) -> None:
        """Turn to who owns the session by its head: should Redis have lost a takeover, no other word would come."""
        with contextlib.suppress(BusError):
            self._worker = await self._way.owner(self._subscribed) or self._worker

    async def _look_for_owner(self, subscription: Subscription, *, opens: bool) -> None:
        """Turn to who owns the session now; where nobody does yet, to any verifier that takes sessions.

        So too where the owner is the verifier that is gone: should nobody have found what it left, this shows it.
        """
        with contextlib.suppress(BusError, ConfigError):
            owner = await self._way.owner(subscription)
            if owner == self._worker or (owner is None and opens):
                owner = await self._find_worker()
            self._worker = owner or self._worker

    @property
    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            msg = "the session is not open"
            raise SessionError(ErrorCode.INTERNAL, msg)
        return self._subscription


def _refusal(error: Error) -> RefusedError:
    if not error.limit:
        return RefusedError(error.code, error.message)
    return QuotaError(error.message, limit=error.limit, left=error.left, retry_after_ms=error.retry_after_ms)


def _unexpected(message: Message, expected: str) -> SessionError:
    return SessionError(ErrorCode.INTERNAL, f"expected {expected}, got {type(message).__name__.lower()}")
