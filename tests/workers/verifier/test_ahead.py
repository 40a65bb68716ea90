"""Rounds of one session that wait: as many as its depth, those ahead of a missing one until that comes."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from dsdq.bus.sessions import read_log
from dsdq.models.names import HASH_TARGET
from dsdq.wire import Decode, Gap, Message, Verdict
from tests.conftest import Serve
from tests.workers.verifier.conftest import PROMPT
from tests.workers.verifier.mortals import (
    LIMIT_S,
    OWN,
    after,
    device_of,
    hold,
    verdict,
)
from workers.verifier import stepping


async def test_no_more_rounds_of_a_session_wait_than_its_depth(
    serve: Serve, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(HASH_TARGET, tenants=("acme",), session_rounds=2) as verifier:
        device = device_of(redis, verifier)
        await device.open()
        await device.until_settled()
        steps = hold(monkeypatch, verifier._stepper, "step")
        for number in range(4):
            await device.send(device.draft((OWN[number],), number + 1, **after(device, number)))
        await device.send(Gap("s1", 0))  # and behind them something that is put away, to see that all were read
        await device.letters(1)
        (held,) = verifier._sessions
        assert [one.message.round for one in held.in_flight()] == [1, 2]
        steps.set()
        tokens: list[int] = []
        while len(tokens) < 3:
            tokens += (await verdict(device)).tokens
        assert tokens == OWN[:3]
        await device.until_settled()


async def test_where_too_many_rounds_wait_for_a_missing_one_it_finds_room(serve: Serve, redis: Redis) -> None:
    async with serve(HASH_TARGET, tenants=("acme",), session_rounds=2) as verifier:
        device = device_of(redis, verifier)
        await device.open()
        (held,) = verifier._sessions
        for number in (1, 3):
            await device.send(device.draft((OWN[number],), number + 1, **after(device, number)))
        async with asyncio.timeout(LIMIT_S):
            while len(held.ahead) < 2:
                await asyncio.sleep(0.005)
        await device.send(device.draft((OWN[0],), 1, **after(device, 0)))
        tokens: list[int] = []
        while len(tokens) < 3:
            said = await device.next()
            tokens += said.tokens if isinstance(said, Verdict) else ()
        assert tokens == OWN[:3]


async def test_rounds_of_a_branch_that_was_given_up_wait_no_longer(serve: Serve, redis: Redis) -> None:
    async with serve(HASH_TARGET, tenants=("acme",)) as verifier:
        device = device_of(redis, verifier)
        await device.open()
        await device.send(device.draft((OWN[9],), 7, **after(device, 9)))
        await device.send(device.draft((OWN[0],), 8, branch=1, **after(device, 0)))
        assert (await verdict(device)).tokens == tuple(OWN[:2])
        await device.until_settled()
        (held,) = verifier._sessions
        assert held.in_flight() == []


async def test_a_later_grant_takes_the_place_of_the_earlier_that_reaches_no_further(
    serve: Serve, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(HASH_TARGET, tenants=("acme",)) as verifier:
        device = device_of(redis, verifier)
        place = len(PROMPT), (await device.open()).digest
        await device.until_settled()
        steps = hold(monkeypatch, verifier._stepper, "step")
        for number, budget in ((1, 4), (2, 6)):
            await device.send(Decode("s1", 0, number, *place, budget=budget))
        (held,) = verifier._sessions
        async with asyncio.timeout(LIMIT_S):
            while len(held.pending) < 2:
                await asyncio.sleep(0.005)
        steps.set()
        said = [await verdict(device) for _ in range(6)]
        assert [one.first_round for one in said] == [2] * 6
        assert [token for one in said for token in one.tokens] == OWN[:6]
        await device.until_settled()


async def replies(serve: Serve, redis: Redis, first: int, then: int) -> list[Message]:
    """Return what is said to two rounds of one token each, sent in this order."""
    async with serve(HASH_TARGET, tenants=("acme",)) as verifier:
        device, said = device_of(redis, verifier), list[Message]()
        await device.open()
        for number in (first, then):
            await device.send(device.draft((OWN[number - 1],), number, **after(device, number - 1)))
            if number == 2 and stepping.GAP_S == 0:
                said.append(await device.next())
        while sum(len(one.tokens) for one in said if isinstance(one, Verdict)) < 3:
            said.append(await device.next())
        await device.until_settled()
        assert await read_log(redis, device.contract, device.seen) == []
    return said


async def test_a_round_that_overtook_another_waits_for_it(
    serve: Serve, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "GAP_S", LIMIT_S)
    said = await replies(serve, redis, 2, 1)
    assert [token for one in said if isinstance(one, Verdict) for token in one.tokens] == OWN[:3]
    assert not any(isinstance(one, Gap) for one in said)


async def test_a_round_that_came_to_be_the_first_that_waits_asks_for_what_is_missing_then(
    serve: Serve, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "GAP_S", 0.05)
    async with serve(HASH_TARGET, tenants=("acme",)) as verifier:
        device = device_of(redis, verifier)
        await device.open()
        for number in (5, 1):  # those between them are lost, the first is late
            await device.send(device.draft((OWN[number],), number + 1, **after(device, number)))
        await asyncio.sleep(0.02)
        await device.send(device.draft((OWN[0],), 1, **after(device, 0)))
        said: list[Message] = []
        while Gap("s1", len(PROMPT) + 3) not in said:
            said.append(await device.next())
    assert [token for one in said if isinstance(one, Verdict) for token in one.tokens] == OWN[:3]


async def test_a_round_that_is_missing_is_asked_for_and_the_one_that_waits_is_answered_too(
    serve: Serve, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "GAP_S", 0)
    gap, *said = await replies(serve, redis, 2, 1)
    assert gap == Gap("s1", len(PROMPT))
    assert [token for one in said if isinstance(one, Verdict) for token in one.tokens] == OWN[:3]
