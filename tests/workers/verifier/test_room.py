"""Slots and KV room: who waits, who gets in when some is freed, and what holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dsdq.bus.sessions import read_log
from dsdq.contract import Contract
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.reference import load_reference
from dsdq.wire import Cancel, Closed, Decode, Error, ErrorCode, Open, Opened, Verdict, pack_contract
from tests.conftest import Serve
from tests.workers.verifier.conftest import SETTINGS, Wire, another
from tests.workers.verifier.mortals import device_of
from workers.verifier import service


async def test_an_open_beyond_the_slots_waits_for_its_turn(wire: Wire) -> None:
    first, second, third = wire, another(wire, "s2"), another(wire, "s3")
    await first.open()
    await second.open()
    await third.send(third.opening)
    await asyncio.sleep(0.05)
    assert await read_log(wire.redis, third.contract, 0) == []
    await first.send(Cancel("s1"))
    assert isinstance(await third.next(), Opened)


async def test_a_tenant_has_its_part_of_the_places_whoever_holds_them(serve: Serve, redis: Redis) -> None:
    async with serve(HASH_TARGET, tenants=("acme", "globex"), slots=2, allow_unsafe_redis=True) as verifier:
        crowd = [device_of(redis, verifier, f"a{number}") for number in range(4)]
        for one in crowd[:2]:
            await one.open()
        for one in crowd[2:]:
            await one.send(one.opening)
        quiet = [device_of(redis, verifier, f"g{number}", tenant="globex") for number in range(2)]
        await quiet[0].open()  # at once, though all places are taken
        await quiet[1].send(quiet[1].opening)
        waiting = (*crowd[2:], quiet[1])
        await crowd[0].send(Cancel("a0"))
        await crowd[0].next()
        await asyncio.sleep(0.05)
        assert [await read_log(redis, one.contract, 0) for one in waiting] == [[], [], []]  # no more than there are
        await crowd[1].send(Cancel("a1"))
        assert isinstance(await crowd[2].next(), Opened)


async def test_silent_sessions_lend_their_places_and_go_on_when_their_devices_do(
    serve: Serve, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SWEEP_S", 0.02)
    async with serve(HASH_TARGET, tenants=("acme",), slots=2, quiet_ms=100, allow_unsafe_redis=True) as verifier:
        devices = [device_of(redis, verifier, f"s{number}") for number in range(5)]
        for one in devices[:4]:
            await one.open()  # the last two as soon as the first have been silent for long enough
        await devices[4].send(devices[4].opening)
        await asyncio.sleep(0.1)
        assert await read_log(redis, devices[4].contract, 0) == []  # never more than twice the places
        await devices[0].send(devices[0].draft(()))
        assert isinstance(await devices[0].next(), Verdict)
        await devices[0].send(Cancel("s0"))
        assert isinstance(await devices[4].next(), Opened)


async def test_a_session_that_goes_on_or_ends_lends_its_place_no_more(serve: Serve, redis: Redis) -> None:
    async with serve(HASH_TARGET, tenants=("acme",), slots=1, allow_unsafe_redis=True) as verifier:
        first, second = (device_of(redis, verifier, f"s{number}") for number in range(2))
        await first.open()
        verifier._sessions.lend_places(verifier._sessions)
        assert verifier._sessions.room == 1
        await first.send(first.draft(()))
        assert isinstance(await first.next(), Verdict)
        assert verifier._sessions.room == 0
        verifier._sessions.lend_places(verifier._sessions)
        await first.send(Cancel("s0"))
        assert isinstance(await first.next(), Closed)
        assert verifier._sessions.room == 1
        await second.open()
        assert verifier._sessions.room == 0


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
    await second.until_settled()  # while so many rounds wait, one more is left for its device to repeat
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


async def test_sessions_that_do_not_fit_together_take_turns_and_lose_no_token(
    serve: Serve, redis: Redis, tiny: Callable[[str], Path]
) -> None:
    target = str(tiny("llama"))
    fingerprint = Tokenizer.load(target).fingerprint
    contract = Contract("acme", "phone", "s1", target, fingerprint, max_tokens=100, ignore_eos=True)
    prompt = tuple(5 + number % 300 for number in range(90))
    async with serve(target, **SETTINGS, kv_tokens=256, kv_grace_ms=0, kv_patience_ms=0) as verifier:
        both = [Wire(redis, verifier, replace(contract, session=name), target) for name in ("s1", "s2")]
        opened = []
        for wire in both:
            await wire.send(Open(wire.contract.session, pack_contract(wire.contract), prompt))
            opened.append(await wire.next())
        texts: list[tuple[int, ...]] = []
        for wire, answer in zip(both, opened, strict=True):
            assert isinstance(answer, Opened)
            await wire.send(Decode(wire.contract.session, 0, 1, len(prompt), answer.digest, budget=100))
        for wire in both:
            text: tuple[int, ...] = ()
            while isinstance(message := await wire.next(), Verdict):
                text += message.tokens
            texts.append(text)
        assert verifier._stepper._planner.evictions > 0
    assert texts == [tuple(load_reference(target).decode(prompt, 100, contract.sampling, 0))] * 2
