"""A drafter at work in its thread: what it is told while it drafts, and what becomes of its draft."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from dsdq.contract import Contract
from dsdq.drafting import TO_THE_END, GoOn, Proposal
from dsdq.errors import ModelError
from dsdq.policies.window import Static, WindowPolicy
from dsdq.policies.window.protocol import GUESSED_TOKENS
from dsdq.policies.window.simple import Threshold
from dsdq.session import Transcript
from dsdq.wire import Draft, Verdict, pack_contract
from producers.device.drafting import Drafting, Hand
from producers.device.flights import Flights, Guessed

CONTRACT = Contract("acme", "phone", "s1", "target", "fingerprint")
PROMPT = (1, 2, 3)
WHOLE = Static(8)
LIMIT_S = 30


@dataclass
class Stepwise:
    """Drafts 10, 11, 12, …: one token for each time that it is let, in a text at a time; ``confidences`` in turn."""

    confidences: Sequence[float] = ()
    texts: list[tuple[int, ...]] = field(default_factory=list)
    drafted: int = 0

    def __post_init__(self) -> None:
        self.lets = threading.Semaphore(0)
        self._alone = threading.Lock()

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        assert self._alone.acquire(blocking=False), "two drafts at a time"
        self.texts.append(tuple(text))
        tokens: list[int] = []
        while True:
            assert self.lets.acquire(timeout=LIMIT_S)
            tokens.append(10 + len(tokens))
            self.drafted += 1
            confidence = self.confidences[len(tokens) - 1] if self.confidences else None
            if len(tokens) == window or not go_on(tokens, confidence):
                self._alone.release()
                return Proposal(tuple(tokens), confidences=tuple(self.confidences[: len(tokens)]))


class Device:
    """Flights and a drafter behind them; the verifier's answers are given by hand."""

    def __init__(self, drafter: Stepwise, policy: WindowPolicy = WHOLE) -> None:
        self.drafter = drafter
        self.transcript = Transcript(pack_contract(CONTRACT), PROMPT)
        self.flights = Flights("s1", self.transcript)
        self.drafting = Drafting([Hand(drafter, briefly=False)], policy, self.flights)

    def commit(self, window: Draft, accepted: int, last: int) -> None:
        """Let a window's verdict come: what was accepted of it, and the target's own token."""
        tokens = (*window.tokens[:accepted], last)
        base, drafted = self.transcript.length, len(window.tokens)
        self.transcript.extend(tokens)
        verdict = Verdict(
            "s1", window.round, window.round, window.branch, base, drafted, accepted, tokens,
            self.transcript.length, self.transcript.digest, drafted + 1, 0, 0, 1, 8,
        )  # fmt: skip
        self.flights.land(verdict)
        self.drafting.follow()

    def stream(self, token: int) -> None:
        """Let a grant's verdict come."""
        self.transcript.extend((token,))
        self.drafting.follow()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.001)


async def test_a_draft_that_a_verdict_rejects_ends_with_the_token_under_way_and_the_next_begins_at_once() -> None:
    drafter = Stepwise()
    device = Device(drafter)
    window = device.flights.launch((7, 8))
    device.drafting.begin(8)
    drafter.lets.release(2)
    await until(lambda: drafter.drafted == 2)
    device.commit(window, 1, 9)
    making = device.drafting.begin(2)
    drafter.lets.release(3)  # one for the token under way
    await making
    made = device.drafting.take()
    assert made is not None
    assert made.proposal.tokens == (10, 11)
    assert drafter.texts == [(1, 2, 3, 7, 8), (1, 2, 3, 7, 9)]
    assert drafter.drafted == 2 + 1 + 2


async def test_a_draft_whose_first_token_is_not_the_targets_own_ends_with_the_token_under_way() -> None:
    drafter = Stepwise()
    device = Device(drafter)
    window = device.flights.launch((7, 8))
    making = device.drafting.begin(8)
    drafter.lets.release(2)
    await until(lambda: drafter.drafted == 2)
    device.commit(window, 2, 99)
    drafter.lets.release()
    await making
    assert device.drafting.take() is None
    assert drafter.drafted == 3


async def test_a_draft_whose_first_token_is_the_targets_own_goes_on_and_follows_it() -> None:
    drafter = Stepwise()
    device = Device(drafter)
    window = device.flights.launch((7, 8))
    making = device.drafting.begin(4)
    drafter.lets.release(2)
    await until(lambda: drafter.drafted == 2)
    device.commit(window, 2, 10)
    drafter.lets.release(2)
    await making
    made = device.drafting.take()
    assert made is not None
    assert (made.proposal.tokens, made.drafted) == ((11, 12, 13), 4)


async def test_a_draft_that_was_dropped_before_its_thread_took_it_up_is_never_made() -> None:
    drafter = Stepwise()
    device = Device(drafter)
    for _ in range(3):
        device.drafting.begin(8)
        await asyncio.sleep(0)
        device.drafting.drop()
    making = device.drafting.begin(1)
    drafter.lets.release(2)
    await making
    assert len(drafter.texts) == 2  # the first and the last
    assert drafter.drafted == 2


async def test_a_policy_that_uses_confidence_ends_a_draft() -> None:
    drafter = Stepwise(confidences=(0.9, 0.8, 0.3, 0.9))
    drafter.lets.release(4)
    device = Device(drafter, Threshold(0.5, 4))
    await device.drafting.begin(4)
    made = device.drafting.take()
    assert made is not None
    assert (made.proposal.tokens, made.proposal.confidences) == ((10, 11, 12), (0.9, 0.8, 0.3))


async def test_guesses_are_counted_when_the_target_has_said_its_token_and_they_are_made() -> None:
    drafter = Stepwise()
    device = Device(drafter)
    device.flights.grant(8)
    device.drafting.guess()
    device.stream(10)
    assert device.drafting.guessed() == Guessed()  # not made yet
    device.stream(11)
    device.drafting.guess()  # one at a time
    drafter.lets.release(GUESSED_TOKENS)
    await until(lambda: device.drafting.begin(1).done())
    device.stream(12)
    assert device.drafting.guessed() == Guessed()  # its last token is not committed yet
    device.stream(13)
    late = device.drafting.guessed()
    assert (late.tokens, late.right) == (GUESSED_TOKENS, GUESSED_TOKENS)
    for token in range(14, 18):
        device.drafting.guess()  # not behind every token
        device.stream(token)
    device.drafting.guess()
    drafter.lets.release(GUESSED_TOKENS)
    await until(lambda: device.drafting.begin(1).done())
    device.stream(10)
    assert device.drafting.guessed() == Guessed()
    device.stream(99)
    wrong = device.drafting.guessed()
    assert (wrong.tokens, wrong.right) == (2, 1)
    assert wrong.guess_ms > 0
    assert drafter.texts == [PROMPT, (*PROMPT, *range(10, 18))]


async def test_what_a_drafter_raises_is_raised_even_if_the_draft_was_dropped() -> None:
    class Broken(Stepwise):
        def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
            del text, window, go_on
            raise ModelError("broken")

    device = Device(Broken())
    device.drafting.begin(1)
    await asyncio.sleep(0)
    device.drafting.drop()
    await asyncio.wait({device.drafting.begin(1)})
    with pytest.raises(ModelError, match="broken"):
        device.drafting.take()


async def test_what_is_under_way_at_the_end_ends_with_the_token_it_is_at() -> None:
    drafter = Stepwise()
    device = Device(drafter)
    device.drafting.begin(8)
    drafter.lets.release()
    await until(lambda: drafter.drafted == 1)
    await device.drafting.end()
    drafter.lets.release(2)
    await until(lambda: not drafter._alone.locked())
    assert drafter.drafted == 2
