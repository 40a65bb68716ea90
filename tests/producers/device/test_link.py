"""What a device makes of messages that are already here when it looks for the close."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from dsdq.bus.feed import Subscription
from dsdq.bus.sessions import LogEntry
from dsdq.client import GenerationStats
from dsdq.contract import Contract, FinishReason
from dsdq.errors import BusyError, GoneError
from dsdq.policies.retry import AnswerTimeout
from dsdq.wire import Closed, Gap, Message, Opened, pack
from producers.device import link as module
from producers.device import patience
from producers.device.link import OPEN_ROUND, SessionLink
from producers.device.patience import Patience
from producers.device.way import Way

CONTRACT = Contract("acme", "phone", "s1", "m", "f")
LENGTH = 10
CLOSED = Closed("s1", FinishReason.STOP, LENGTH, b"d" * 16, 1, 0, 0, 1)
NOBODY: Any = None


def owner(worker: str, length: int) -> Opened:
    return Opened("s1", worker, 2, "n", "r", length, b"d" * 16, 8, 64)


def link_with(messages: Sequence[Message]) -> SessionLink:
    """Return the link of a device whose text has ``LENGTH`` tokens, and that has not looked at ``messages`` yet."""
    patience = Patience(open_ms=1000, verdict_ms=1000, give_up_ms=1000)
    link = SessionLink(NOBODY, NOBODY, patience, GenerationStats(), random.Random(0))
    link._contract, link._length = CONTRACT, LENGTH
    link._subscription = Subscription(CONTRACT)
    for number, message in enumerate(messages, 1):
        link._subscription.take(LogEntry(number, 1, pack(message)))
    return link


@pytest.mark.parametrize(
    ("messages", "answer", "takeovers"),
    [
        ([], None, 0),
        ([CLOSED], CLOSED, 0),
        ([Gap("s1", LENGTH)], None, 0),
        ([owner("w2", LENGTH), owner("w3", LENGTH), CLOSED], CLOSED, 2),
        ([owner("w2", LENGTH - 1), CLOSED], owner("w2", LENGTH - 1), 1),
    ],
    ids=["nothing", "a close", "a gap", "new owners and a close", "an owner that knows less"],
)
def test_between_two_rounds_there_is_a_close_or_an_owner_that_knows_less_or_nothing(
    messages: list[Message], answer: Message | None, takeovers: int
) -> None:
    link = link_with(messages)
    assert link.closed() == answer
    assert link._stats.takeovers == takeovers


def test_the_next_round_goes_to_the_newest_owner() -> None:
    link = link_with([owner("w2", LENGTH), owner("w3", LENGTH)])
    assert link.closed() is None
    assert link._worker == "w3"


@pytest.mark.parametrize("through", ["the feed", "the log"])
async def test_a_round_is_not_repeated_to_a_verifier_that_is_gone_once_its_answer_is_here(through: str) -> None:
    link = link_with([CLOSED] if through == "the feed" else [])
    subscription = link._subscription
    assert subscription is not None

    class Shut:
        async def publish(self, *_: object, **__: object) -> None:
            raise GoneError("closed")

        async def catch_up(self, _: Subscription) -> bool:
            if through == "the log":
                subscription.take(LogEntry(1, 1, pack(CLOSED)))
            return through == "the log"

        async def owner(self, _: Subscription) -> None:
            return None  # the session is closed

    link._way = cast("Way", Shut())
    await link._publish(b"round", subscription)
    assert link.closed() == CLOSED


async def test_a_gap_has_repeated_what_the_verifier_could_have_had_by_then_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link, clock, published = link_with([Gap("s1", LENGTH), CLOSED]), Clock(), list[bytes]()
    under_way, all_under_way = 0, asyncio.Event()

    async def publish(_worker: str, _contract: Contract, payload: bytes, **_: object) -> None:
        nonlocal under_way
        published.append(payload)
        under_way += 1
        if under_way == 2:
            all_under_way.set()
        await all_under_way.wait()  # one after the other would wait for ever

    monkeypatch.setattr(module, "monotonic", clock)
    link._way = cast("Way", Silent(publish))
    link._last_link_ms = 100
    link._asked = {
        number: module._Asked(b"%d" % number, at_s, at_s) for number, at_s in ((1, 0.1), (2, 0.2), (3, 0.95))
    }
    await clock.sleep(1.0)
    async with asyncio.timeout(30):
        assert await link.answer() == CLOSED
    assert published == [b"1", b"2"]
    assert [link._asked[number].sent_s for number in (1, 2, 3)] == [1.0, 1.0, 0.95]
    assert link._stats.repeats == 2


# Full


@pytest.mark.parametrize(
    ("open_ms", "deadline_ms", "tries"),
    [(800, None, 3), (10_000, 250, 2), (10_000, 50, 1)],
    ids=["until its patience ends", "until the deadline is near", "not at all"],
)
async def test_an_open_is_offered_again_as_long_as_there_is_time_for_it_and_never_cancelled(
    monkeypatch: pytest.MonkeyPatch, open_ms: int, deadline_ms: int | None, tries: int
) -> None:
    link, published = link_with([]), list[bytes]()
    link._rng = cast("random.Random", Steady())

    async def busy(_worker: str, _contract: Contract, payload: bytes, **_: object) -> None:
        published.append(payload)
        raise BusyError("full", retry_after_ms=100 if deadline_ms else 160)

    async def look(*_: object, **__: object) -> None:
        return

    clock = Clock()
    for one in (module, patience):
        monkeypatch.setattr(one, "monotonic", clock)
    monkeypatch.setattr(module.asyncio, "sleep", clock.sleep)
    link._clock = patience.Clock(Patience(open_ms, verdict_ms=1000, give_up_ms=10_000, deadline_ms=deadline_ms))
    monkeypatch.setattr(link, "_look_for_owner", look)
    link._way = cast("Way", Silent(busy))
    with pytest.raises(BusyError):
        await link._ask(OPEN_ROUND, b"open")
    assert len(published) == tries
    await link.close(cancel=True)  # no verifier has heard of it
    assert len(published) == tries


async def test_a_cancel_that_finds_no_room_before_the_deadline_ends_quietly() -> None:
    link, tried = link_with([]), list[bytes]()

    async def busy(_worker: str, _contract: Contract, payload: bytes, **_: object) -> None:
        tried.append(payload)
        raise BusyError("full", retry_after_ms=10)

    link._sent, link._way = True, cast("Way", Silent(busy))
    link._clock = patience.Clock(Patience(open_ms=1000, verdict_ms=1000, give_up_ms=1000, deadline_ms=0))
    await link.close(cancel=True)
    assert tried


class Clock:
    """Goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        self._now_s += seconds


class Steady:
    """Scatters nothing."""

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


# Lost


async def test_an_open_that_nobody_answers_is_repeated_and_waits_on_though_there_is_no_room_for_a_second() -> None:
    link, published = link_with([]), list[bytes]()
    link._patience = Patience(open_ms=60_000, verdict_ms=10, give_up_ms=60_000)
    link._timeout = AnswerTimeout(10, 10)
    subscription = link._subscribed
    opened = owner("w1", LENGTH)

    async def publish(_worker: str, _contract: Contract, payload: bytes, **_: object) -> None:
        published.append(payload)
        if len(published) == 2:
            raise BusyError("full", retry_after_ms=60_000)
        if len(published) == 3:
            subscription.take(LogEntry(1, 1, pack(opened)))

    link._way = cast("Way", Silent(publish))
    await link._ask(OPEN_ROUND, b"open")
    assert await link._next() == opened
    assert published == [b"open"] * 3


class Silent:
    """A way on which logs say nothing, and what is published goes to ``publish``."""

    def __init__(self, publish: Callable[..., Awaitable[None]]) -> None:
        self.publish = publish

    def look_ahead(self, _subscription: Subscription, _answers: int) -> None:
        return

    async def catch_up(self, _: Subscription) -> bool:
        return False

    async def owner(self, _: Subscription) -> None:
        return None

    def unsubscribe(self, _: Subscription) -> None:
        return
