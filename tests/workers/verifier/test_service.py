"""A verifier on a real Redis, spoken to message by message: what it answers, what it buries, what it never does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.inbox import publish
from dsdq.bus.sessions import read_log
from dsdq.contract import Contract, FinishReason
from dsdq.errors import GoneError
from dsdq.models.tokenizer import Tokenizer
from dsdq.session import Transcript
from dsdq.testing.reference import load_reference
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
from tests.conftest import Serve
from workers.verifier.service import Verifier

PROMPT = (5, 9, 12, 7)
SETTINGS: dict[str, Any] = {"tenants": ("acme", "globex"), "slots": 2}


@dataclass
class Wire:
    """One device's session, by hand."""

    redis: Redis
    verifier: Verifier
    contract: Contract
    target: str
    seen: int = 0

    @property
    def text(self) -> Transcript:
        return Transcript(pack_contract(self.contract), PROMPT)

    @property
    def opening(self) -> Open:
        return Open(self.contract.session, pack_contract(self.contract), PROMPT)

    async def send(self, message: Message | bytes, tenant: str = "") -> None:
        payload = message if isinstance(message, bytes) else pack(message)
        await publish(self.redis, self.verifier.info.wid, tenant or self.contract.tenant, payload)

    async def next(self) -> Message:
        """Wait for the next entry of the session's log."""
        async with asyncio.timeout(30):
            while not (news := await read_log(self.redis, self.contract, self.seen)):
                await asyncio.sleep(0.005)
        self.seen += 1
        return unpack(news[0])

    async def open(self) -> Opened:
        await self.send(self.opening)
        opened = await self.next()
        assert isinstance(opened, Opened)
        return opened

    def own(self, count: int) -> list[int]:
        """Return what the target says after the prompt."""
        reference = load_reference(self.target)
        return reference.decode(PROMPT, count, self.contract.sampling, self.contract.seed)

    def draft(self, tokens: tuple[int, ...], round_: int = 1, **changed: Any) -> Draft:
        fields = {"branch": 0, "base": len(PROMPT), "digest": self.text.digest, "law": None}
        return Draft(session=self.contract.session, round=round_, tokens=tokens, **{**fields, **changed})

    async def letters(self, count: int) -> list[dict[bytes, bytes]]:
        async with asyncio.timeout(30):
            while await self.redis.xlen(keys.DEAD_LETTERS) < count:
                await asyncio.sleep(0.005)
        return [fields for _, fields in await self.redis.xrange(keys.DEAD_LETTERS)]

    async def until_settled(self) -> None:
        async with asyncio.timeout(30):
            while await self.redis.xlen(keys.inbox(self.verifier.info.wid, self.contract.tenant)):
                await asyncio.sleep(0.005)


@pytest.fixture
async def wire(serve: Serve, redis: Redis, tiny: Callable[[str], Path]) -> AsyncIterator[Wire]:
    target = str(tiny("llama"))
    fingerprint = Tokenizer.load(target).fingerprint
    contract = Contract("acme", "phone", "s1", target, fingerprint, max_tokens=20, max_window=8, ignore_eos=True)
    async with serve(target, **SETTINGS) as verifier:
        yield Wire(redis, verifier, contract, target)


def another(wire: Wire, session: str, **changed: Any) -> Wire:
    return replace(wire, contract=replace(wire.contract, session=session, **changed), seen=0)


# The usual


async def test_a_session_from_open_to_receipt(wire: Wire) -> None:
    opened = await wire.open()
    assert opened.length == len(PROMPT)
    assert opened.digest == wire.text.digest
    own = wire.own(20)
    await wire.send(wire.draft((*own[:2], own[2] + 1)))
    first = await wire.next()
    assert isinstance(first, Verdict)
    assert (first.accepted, first.drafted, first.tokens) == (2, 3, tuple(own[:3]))
    text = wire.text
    text.extend(first.tokens)
    assert first.digest == text.digest
    await wire.send(wire.draft(tuple(own[3:11]), 2, branch=1, base=text.length, digest=text.digest))
    second = await wire.next()
    assert isinstance(second, Verdict)
    assert (second.accepted, second.tokens) == (8, tuple(own[3:12]))
    text.extend(second.tokens)
    await wire.send(Decode("s1", 1, 3, text.length, text.digest, budget=64))
    streamed = [await wire.next() for _ in range(8)]
    assert [token for one in streamed if isinstance(one, Verdict) for token in one.tokens] == own[12:]
    closed = await wire.next()
    assert isinstance(closed, Closed)
    assert (closed.reason, closed.length) == (FinishReason.LENGTH, len(PROMPT) + 20)
    assert (closed.drafted, closed.accepted) == (11, 10)


async def test_tokens_behind_a_stop_are_never_committed(wire: Wire) -> None:
    own = wire.own(4)
    place = own.index(own[2])
    wire.contract = replace(wire.contract, stop_ids=(own[2],))
    await wire.open()
    await wire.send(wire.draft(tuple(own)))
    verdict, closed = await wire.next(), await wire.next()
    assert isinstance(verdict, Verdict)
    assert verdict.tokens == tuple(own[: place + 1])
    assert isinstance(closed, Closed)
    assert closed.reason is FinishReason.STOP


# What repeats, comes late or is missing


async def test_a_round_that_comes_twice_is_answered_once(wire: Wire) -> None:
    await wire.open()
    round_ = wire.draft(tuple(wire.own(3)))
    await wire.send(round_)
    await wire.send(round_)
    assert isinstance(await wire.next(), Verdict)
    await wire.until_settled()
    assert await read_log(wire.redis, wire.contract, wire.seen) == []


async def test_an_open_that_comes_twice_is_answered_once(wire: Wire) -> None:
    await wire.open()
    await wire.send(wire.opening)
    await wire.until_settled()
    assert await read_log(wire.redis, wire.contract, wire.seen) == []
    await wire.send(wire.draft(tuple(wire.own(1))))
    assert isinstance(await wire.next(), Verdict)


async def test_a_round_of_another_text_gets_no_answer_and_costs_no_forward(wire: Wire) -> None:
    await wire.open()
    steps = wire.verifier._steps
    await wire.send(wire.draft((1, 2), digest=b"x" * 16))
    await wire.until_settled()
    assert wire.verifier._steps == steps
    await wire.send(wire.draft(tuple(wire.own(1)), 2))
    assert isinstance(await wire.next(), Verdict)


async def test_a_round_whose_predecessor_is_missing_is_answered_with_the_gap(wire: Wire) -> None:
    await wire.open()
    await wire.send(wire.draft((1,), 2, base=len(PROMPT) + 5, digest=b"?" * 16))
    gap = await wire.next()
    assert gap == Gap("s1", len(PROMPT))


async def test_two_windows_in_flight_commit_what_still_fits(wire: Wire) -> None:
    await wire.open()
    own = wire.own(8)
    text = wire.text
    text.extend(own[:4])
    await wire.send(wire.draft(tuple(own[:4])))
    await wire.send(wire.draft(tuple(own[4:7]), 2, base=text.length, digest=text.digest))
    first, second = await wire.next(), await wire.next()
    assert isinstance(first, Verdict)
    assert isinstance(second, Verdict)
    assert [*first.tokens, *second.tokens] == own


# What is wrong


async def test_garbage_is_buried_and_the_worker_lives_on(wire: Wire) -> None:
    await wire.open()
    for garbage in (b"", b"\xc1", b"\x91" * 3000, b"x" * 100_000):
        await wire.send(garbage)
    letters = await wire.letters(4)
    assert all(letter[b"reason"].startswith(b"malformed") for letter in letters)
    await wire.send(wire.draft(tuple(wire.own(1))))
    assert isinstance(await wire.next(), Verdict)


async def test_a_malformed_round_of_a_known_session_ends_that_session_with_the_reason(wire: Wire) -> None:
    await wire.open()
    fields = msgpack.unpackb(pack(wire.draft((1,))), strict_map_key=False)
    await wire.send(msgpack.packb({**fields, 6: b"short"}))
    error = await wire.next()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.MALFORMED
    assert "digest" in error.message


async def test_a_round_for_a_session_that_is_not_there_is_buried(wire: Wire) -> None:
    await wire.send(wire.draft((1,)))
    (letter,) = await wire.letters(1)
    assert b"unknown session s1" in letter[b"reason"]


async def test_what_only_workers_say_is_buried(wire: Wire) -> None:
    await wire.send(Gap("s1", 3))
    (letter,) = await wire.letters(1)
    assert b"not a device's message" in letter[b"reason"]


async def test_a_window_beyond_the_contract_ends_the_session(wire: Wire) -> None:
    await wire.open()
    await wire.send(wire.draft((1,) * 9))
    error = await wire.next()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.WINDOW_TOO_LARGE


async def test_ids_that_the_target_does_not_have_are_simply_not_accepted(wire: Wire) -> None:
    await wire.open()
    own = wire.own(2)
    await wire.send(wire.draft((own[0], 2**31 - 1, 5)))
    verdict = await wire.next()
    assert isinstance(verdict, Verdict)
    assert (verdict.tokens, verdict.accepted, verdict.drafted) == (tuple(own), 1, 2)


# Tenants


async def test_a_tenant_can_neither_write_to_nor_end_anothers_session(wire: Wire) -> None:
    await wire.open()
    round_ = wire.draft((1, 2, 3))
    fields = msgpack.unpackb(pack(round_), strict_map_key=False)
    for message in (pack(round_), pack(Cancel("s1")), msgpack.packb({**fields, 6: b"short"})):
        await wire.send(message, tenant="globex")
    await wire.letters(3)
    await wire.send(wire.draft(tuple(wire.own(2))))
    verdict = await wire.next()
    assert isinstance(verdict, Verdict)
    assert verdict.accepted == 2


async def test_a_contract_of_another_tenant_than_its_inbox_is_buried(wire: Wire) -> None:
    await wire.send(wire.opening, tenant="globex")
    (letter,) = await wire.letters(1)
    assert b"acme" in letter[b"reason"]
    assert await read_log(wire.redis, wire.contract, 0) == []


async def test_nobody_publishes_for_a_tenant_that_is_not_served(wire: Wire) -> None:
    with pytest.raises(GoneError):
        await wire.send(wire.opening, tenant="stranger")


# Room


async def test_an_open_beyond_the_slots_waits_for_its_turn(wire: Wire) -> None:
    first, second, third = wire, another(wire, "s2"), another(wire, "s3")
    await first.open()
    await second.open()
    await third.send(third.opening)
    await asyncio.sleep(0.05)
    assert await read_log(wire.redis, third.contract, 0) == []
    await first.send(Cancel("s1"))
    assert isinstance(await third.next(), Opened)


async def test_an_open_that_waits_can_be_cancelled(wire: Wire) -> None:
    second, third = another(wire, "s2"), another(wire, "s3")
    await wire.open()
    await second.open()
    await third.send(third.opening)
    await third.send(Cancel("s3"))
    await third.until_settled()
    await wire.send(Cancel("s1"))
    assert isinstance(await wire.next(), Closed)
    assert await read_log(wire.redis, third.contract, 0) == []


async def test_room_that_an_error_frees_is_given_to_whoever_waits(wire: Wire) -> None:
    second, third = another(wire, "s2"), another(wire, "s3")
    await wire.open()
    await second.open()
    await third.send(third.opening)
    await wire.send(wire.draft((1,) * 9))
    assert isinstance(await third.next(), Opened)


async def test_a_device_that_asked_twice_and_gave_up_leaves_no_session(wire: Wire) -> None:
    second, third = another(wire, "s2"), another(wire, "s3")
    await wire.open()
    await second.open()
    for message in (third.opening, third.opening, Cancel("s3"), Cancel("s1")):
        await third.send(message)
    await third.until_settled()
    assert await read_log(wire.redis, third.contract, 0) == []
    assert len(wire.verifier._sessions) == 1


async def test_a_cancel_among_many_messages_of_another_session_ends_nobody_else(wire: Wire) -> None:
    second = another(wire, "s2")
    await wire.open()
    await second.open()
    stale = [second.draft((1,), number, digest=b"x" * 16) for number in range(1, 40)]
    await asyncio.gather(wire.send(wire.draft((1, 2))), *map(second.send, stale), wire.send(Cancel("s1")))
    while not isinstance(await wire.next(), Closed):
        pass
    await second.send(second.draft(tuple(second.own(2)), 99))
    assert isinstance(await second.next(), Verdict)


async def test_a_kv_cache_is_offered_as_large_as_its_whole_blocks(
    serve: Serve, redis: Redis, tiny: Callable[[str], Path]
) -> None:
    target = str(tiny("llama"))
    contract = Contract("acme", "phone", "s1", target, Tokenizer.load(target).fingerprint, max_tokens=110)
    async with serve(target, **SETTINGS, kv_tokens=190) as verifier:
        device = Wire(redis, verifier, contract, target)  # needs 4 + 110 + 16 = 130 positions
        await device.send(device.opening)
        error = await device.next()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.CONTEXT_TOO_LONG
    assert "128" in error.message


async def test_a_prompt_fed_in_pieces_gives_the_same_text_and_holds_nobody_up(
    serve: Serve, redis: Redis, tiny: Callable[[str], Path]
) -> None:
    target = str(tiny("llama"))
    fingerprint = Tokenizer.load(target).fingerprint
    contract = Contract("acme", "phone", "s1", target, fingerprint, max_tokens=20, ignore_eos=True)
    prompt = tuple(5 + number % 300 for number in range(400))
    async with serve(target, **SETTINGS, prefill_tokens=7) as verifier:
        long, short = Wire(redis, verifier, contract, target), Wire(redis, verifier, contract, target)
        short.contract = replace(contract, session="s2")
        await long.send(Open("s1", pack_contract(contract), prompt))
        opened = await long.next()
        assert isinstance(opened, Opened)
        await long.send(Decode("s1", 0, 1, 400, opened.digest, budget=20))
        await short.open()
        await short.send(short.draft(tuple(short.own(3))))
        assert isinstance(await short.next(), Verdict)
        tokens: list[int] = []
        while isinstance(message := await long.next(), Verdict):
            tokens += message.tokens
    assert tokens == load_reference(target).decode(prompt, 20, contract.sampling, 0)


async def test_an_open_that_the_kv_cache_has_no_room_for_waits_too(
    serve: Serve, redis: Redis, tiny: Callable[[str], Path]
) -> None:
    target = str(tiny("llama"))
    contract = Contract("acme", "phone", "s1", target, Tokenizer.load(target).fingerprint, max_tokens=50)
    async with serve(target, **SETTINGS, kv_tokens=128) as verifier:
        first = Wire(redis, verifier, contract, target)
        second = another(first, "s2")
        await first.open()
        await second.send(second.opening)
        await asyncio.sleep(0.05)
        assert await read_log(redis, second.contract, 0) == []
        await first.send(Cancel("s1"))
        assert isinstance(await second.next(), Opened)


# Ends


async def test_a_cancel_closes_with_a_receipt(wire: Wire) -> None:
    await wire.open()
    await wire.send(Cancel("s1"))
    closed = await wire.next()
    assert isinstance(closed, Closed)
    assert closed.reason is FinishReason.CANCELLED
    await wire.until_settled()
    assert await wire.redis.smembers(keys.worker_sessions(wire.verifier.info.wid)) == set()


async def test_a_grant_can_be_cancelled_midway(wire: Wire) -> None:
    wire.contract = replace(wire.contract, max_tokens=300)
    await wire.open()
    await wire.send(Decode("s1", 0, 1, len(PROMPT), wire.text.digest, budget=300))
    assert isinstance(await wire.next(), Verdict)
    await wire.send(Cancel("s1"))
    while isinstance(message := await wire.next(), Verdict):
        pass
    assert isinstance(message, Closed)
    assert message.length < len(PROMPT) + 300


async def test_a_verifier_that_stops_tells_its_sessions_and_lets_nobody_in(
    serve: Serve, redis: Redis, tiny: Callable[[str], Path]
) -> None:
    target = str(tiny("llama"))
    contract = Contract("acme", "phone", "s1", target, Tokenizer.load(target).fingerprint, max_tokens=50)
    async with serve(target, **SETTINGS) as verifier:
        device, waiting = Wire(redis, verifier, contract, target), Wire(redis, verifier, contract, target)
        await device.open()
        await another(device, "s2").open()
        waiting.contract = replace(contract, session="s3")
        await waiting.send(waiting.opening)
        await asyncio.sleep(0.05)
    for one in (device, waiting):
        error = await one.next()
        assert isinstance(error, Error)
        assert error.code == ErrorCode.WORKER_STOPPED
    with pytest.raises(GoneError):
        await device.send(Cancel("s1"))
    assert await redis.zcard(keys.workers(target)) == 0


async def test_nothing_stays_in_the_inbox_when_all_is_answered(wire: Wire) -> None:
    await wire.open()
    await wire.send(wire.draft(tuple(wire.own(3))))
    await wire.next()
    await wire.until_settled()
    assert (await wire.redis.xpending(keys.inbox(wire.verifier.info.wid, "acme"), "verify"))["pending"] == 0
