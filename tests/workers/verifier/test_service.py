"""A verifier on a real Redis, spoken to message by message: what it answers, what it buries, what it never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.sessions import SessionStore, place_of, read_log
from dsdq.contract import Contract, FinishReason
from dsdq.errors import GoneError
from dsdq.models.tokenizer import Tokenizer
from dsdq.wire import Cancel, Closed, Decode, Error, ErrorCode, Gap, Opened, Verdict, pack
from tests.conftest import Serve
from tests.workers.verifier.conftest import PROMPT, SETTINGS, Wire, another

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


async def test_the_head_says_on_which_branch_the_session_is(wire: Wire) -> None:
    await wire.open()
    right, wrong = wire.own(2)[0], (wire.own(2)[1] + 1) % 100
    await wire.send(wire.draft((right, wrong)))
    assert isinstance(await wire.next(), Verdict)
    assert await wire.redis.hget(place_of(wire.contract).head, "branch") == b"1"


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
    steps = wire.verifier._stepper.steps
    await wire.send(wire.draft((1, 2), digest=b"x" * 16))
    await wire.until_settled()
    assert wire.verifier._stepper.steps == steps
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
    await wire.letters(2)  # a cancel that means nobody is counted, not kept
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


async def test_a_verifier_that_stops_hands_its_sessions_over_and_lets_nobody_in(
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
    with pytest.raises(GoneError):
        await device.send(Cancel("s1"))
    async with serve(target, **SETTINGS) as heir:
        again = await device.next()
        assert isinstance(again, Opened)
        assert (again.worker, again.epoch, again.length) == (heir.info.wid, 2, len(PROMPT))
        device.verifier = heir
        await device.send(Cancel("s1"))  # and so there is a place for who waited
        opened = await waiting.next()
        assert isinstance(opened, Opened)
        assert (opened.worker, opened.epoch) == (heir.info.wid, 1)


async def test_a_verifier_with_nothing_left_leaves_no_trace(
    serve: Serve, redis: Redis, tiny: Callable[[str], Path]
) -> None:
    async with serve(tiny("llama")):
        assert await redis.keys("*")
    assert await redis.keys("*") == []


async def test_nothing_stays_in_the_inbox_when_all_is_answered(wire: Wire) -> None:
    await wire.open()
    await wire.send(wire.draft(tuple(wire.own(3))))
    await wire.next()
    await wire.until_settled()
    assert (await wire.redis.xpending(keys.inbox(wire.verifier.info.wid, "acme"), "verify"))["pending"] == 0


async def test_what_comes_for_a_session_that_another_verifier_took_does_not_stay_in_the_inbox(wire: Wire) -> None:
    await wire.open()
    other = SessionStore(wire.redis, "w2", feed_entries=10, open_ttl_ms=60_000, closed_ttl_ms=60_000)
    place = place_of(wire.contract)
    assert await other.take_over(place, wire.verifier.info.wid) is not None
    await wire.send(wire.draft(tuple(wire.own(3))))
    await wire.until_settled()
    assert await read_log(wire.redis, wire.contract, wire.seen) == []
