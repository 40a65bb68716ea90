"""Verifiers that die or pause: their sessions go on elsewhere, with the same text, at most once."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.sessions import place_of, read_entries, read_log
from dsdq.contract import FinishReason
from dsdq.drafting import Drafter
from dsdq.errors import RefusedError
from dsdq.models.names import HASH_TARGET
from dsdq.settings import Settings
from dsdq.wire import Cancel, Closed, Decode, ErrorCode, Opened, Verdict, unpack
from producers.drafters.recorded import RecordedDrafter
from tests.workers.verifier.conftest import PROMPT, Wire
from tests.workers.verifier.mortals import (
    OWN,
    Mortal,
    Start,
    after,
    device_of,
    follow,
    hold,
    lapse,
    until,
    until_delivered,
    until_forgotten,
    verdict,
)
from workers.verifier.assembly import assemble
from workers.verifier.incarnations import serve as serve_incarnations
from workers.verifier.service import Verifier

# Death


@pytest.mark.parametrize(
    ("draft", "depth"),
    [
        ("none", 1),
        ("ngram", 1),
        ("hash:0.5", 1),
        pytest.param(RecordedDrafter(0.8), 4, id="at once-4"),
        pytest.param(RecordedDrafter(0.8, ms_per_token=0.5), 4, id="in its thread-4"),
    ],
)
async def test_a_text_goes_on_as_if_nothing_had_happened(
    mortal: Start, redis_url: str, draft: str | Drafter, depth: int
) -> None:
    first = await mortal(hash_step_ms=2)
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=draft, max_tokens=300, window=4, depth=depth)
        shown = []
        async for token in generation:
            shown.append(token.id)
            if len(shown) == 20:
                await first.kill()
                await mortal()
    assert shown == OWN
    assert generation.stats.takeovers == 1


async def test_a_session_that_is_idle_goes_on_where_it_was(mortal: Start, redis: Redis) -> None:
    first = await mortal()
    device = device_of(redis, first.verifier)
    await device.open()
    await device.send(device.draft((*OWN[:2], OWN[2] + 1)))
    assert (await verdict(device)).tokens == tuple(OWN[:3])
    await device.until_settled()
    await first.kill()
    heir = (await mortal()).verifier
    await follow(device, heir, len(PROMPT) + 3)
    await device.send(device.draft(tuple(OWN[3:5]), 2, branch=1, **after(device, 3)))
    assert (await verdict(device)).tokens == tuple(OWN[3:6])
    await device.send(Cancel("s1"))
    closed = await device.next()
    assert isinstance(closed, Closed)
    assert (closed.rounds, closed.drafted, closed.accepted) == (2, 5, 4)
    await until_forgotten(redis, first.verifier.info.wid)


async def test_what_was_read_and_what_nobody_read_is_answered_by_the_heir(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mortal()
    device, late = device_of(redis, first.verifier), device_of(redis, first.verifier, "s2")
    hold(monkeypatch, first.verifier._stepper, "step")
    await device.open()
    await device.until_settled()
    await device.send(device.draft(tuple(OWN[:3])))
    await until_delivered(redis, first.verifier.info.wid, 1)
    await first.kill()
    await device.send(device.draft(tuple(OWN[3:5]), 2, **after(device, 3)))
    await late.send(late.opening)
    heir = (await mortal()).verifier
    await follow(device, heir)
    tokens: list[int] = []
    while len(tokens) < 6:
        tokens += (await verdict(device)).tokens
    assert tokens == OWN[:6]
    opened = await late.next()
    assert isinstance(opened, Opened)
    assert (opened.worker, opened.epoch) == (heir.info.wid, 1)
    await until_forgotten(redis, first.verifier.info.wid)


async def test_a_grant_goes_on_from_the_last_token_that_was_written(mortal: Start, redis: Redis) -> None:
    first = await mortal(hash_step_ms=2)
    device = device_of(redis, first.verifier, max_tokens=300)
    await device.open()
    await device.send(Decode("s1", 0, 1, len(PROMPT), device.text.digest, budget=300))
    tokens = [*(await verdict(device)).tokens]
    await first.kill()
    await mortal()
    while not isinstance(message := await device.next(), Closed):
        tokens += message.tokens if isinstance(message, Verdict) else ()
    assert tokens == OWN
    assert message.rounds == 300


async def unacknowledging(mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> tuple[Mortal, Wire]:
    """Return a verifier that acknowledges nothing from now on, and a device with a session there."""
    first = await mortal()
    device = device_of(redis, first.verifier)
    await device.open()
    await device.until_settled()
    hold(monkeypatch, first.verifier._inbox, "settle")
    return first, device


async def test_a_round_that_was_answered_but_not_acknowledged_is_answered_once(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, device = await unacknowledging(mortal, redis, monkeypatch)
    await device.send(device.draft(tuple(OWN[:3])))
    await verdict(device)
    await first.kill()
    await follow(device, (await mortal()).verifier, len(PROMPT) + 4)
    await until_forgotten(redis, first.verifier.info.wid)
    assert await read_log(redis, device.contract, device.seen) == []


async def test_what_is_left_of_a_session_that_has_ended_holds_nobody_up(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, device = await unacknowledging(mortal, redis, monkeypatch)
    await device.send(Cancel("s1"))
    assert isinstance(await device.next(), Closed)
    await first.kill()
    await mortal()
    await until_forgotten(redis, first.verifier.info.wid)


async def test_a_session_that_was_refused_while_its_verifier_died_holds_nobody_up(mortal: Start, redis: Redis) -> None:
    first = await mortal()
    device = device_of(redis, first.verifier)
    refusal = RefusedError(ErrorCode.UNTRUSTED, "no")
    await first.verifier._sessions.answer_with(device.opening, device.contract, refusal)
    await redis.sadd(keys.worker_sessions(first.verifier.info.wid), str(place_of(device.contract)))
    await first.kill()
    heir = await mortal()
    await until_forgotten(redis, first.verifier.info.wid)
    assert not heir.serving.done()


# Heirs


async def test_heirs_share_sessions_by_the_room_they_have(mortal: Start, redis: Redis) -> None:
    first = await mortal(slots=4)
    devices = [device_of(redis, first.verifier, f"s{number}") for number in range(4)]
    for device in devices:
        await device.open()
    heirs = [(await mortal(slots=2)).verifier for _ in range(2)]
    await first.kill()
    owners = []
    for number, device in enumerate(devices):
        opened = await device.next()
        assert isinstance(opened, Opened), number
        owners.append(opened.worker)
    assert sorted(owners) == sorted([heirs[0].info.wid, heirs[1].info.wid] * 2)
    await until_forgotten(redis, first.verifier.info.wid)


async def test_an_heir_takes_more_than_it_has_room_for_when_nobody_has_any(mortal: Start, redis: Redis) -> None:
    first = await mortal(slots=3)
    devices = [device_of(redis, first.verifier, f"s{number}") for number in range(3)]
    for device in devices:
        await device.open()
    await first.kill()
    heir = (await mortal(slots=1)).verifier
    for device in devices:
        await follow(device, heir)
        await device.send(device.draft(tuple(OWN[:2])))
        assert (await verdict(device)).tokens == tuple(OWN[:3])


async def test_a_cancel_reaches_the_new_owner(mortal: Start, redis: Redis, redis_url: str) -> None:
    first = await mortal(hash_step_ms=2)
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft="none", max_tokens=300)
        await anext(aiter(generation))
        await first.kill()
        heir = (await mortal(hash_step_ms=20)).verifier

        async def taken_over() -> bool:
            return bool(await redis.scard(keys.worker_sessions(heir.info.wid)))

        await until(taken_over)
        (place,) = await heir._sessions._store.places(heir.info.wid)
        await generation.aclose()

        async def ended() -> bool:
            return isinstance(unpack((await read_entries(redis, place))[-1].message), Closed)

        await until(ended)
    (*_, last) = await read_entries(redis, place)
    closed = unpack(last.message)
    assert isinstance(closed, Closed)
    assert closed.reason is FinishReason.CANCELLED


async def test_a_cancel_that_comes_while_the_heir_rebuilds_the_session_is_not_forgotten(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mortal()
    device = device_of(redis, first.verifier)
    await device.open()
    await device.until_settled()
    await first.kill()
    heir = (await mortal()).verifier
    gate = hold(monkeypatch, heir._sessions._store, "commit")

    async def owned() -> bool:
        head = await heir._sessions._store.head(place_of(device.contract))
        return head is not None and head.worker == heir.info.wid

    await until(owned)
    device.verifier = heir
    await device.send(Cancel("s1"))
    await until_delivered(redis, heir.info.wid, 1)
    gate.set()
    assert isinstance(await device.next(), Opened)
    assert isinstance(await device.next(), Closed)
    await device.until_settled()


# A pause


async def test_a_verifier_that_was_paused_comes_back_under_a_new_id_and_acknowledges_nothing_it_lost(
    mortal: Start, redis: Redis, redis_url: str, long_lease: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, ready = asyncio.Event(), asyncio.Queue[Verifier]()
    chosen = Settings(redis_url=redis_url, tenants=("acme",), lease_ms=long_lease)
    async with assemble(redis_url, HASH_TARGET, "cpu", "float32", chosen) as make:
        serving = asyncio.create_task(serve_incarnations(make, stop, ready.put_nowait))
        paused = await ready.get()
        device = device_of(redis, paused)
        await device.open()
        await device.until_settled()
        wakes, writes = (
            hold(monkeypatch, paused._registry, "renew"),
            hold(monkeypatch, paused._sessions._store, "commit"),
        )
        await device.send(device.draft(tuple(OWN[:3])))

        async def decided() -> bool:
            return bool(paused._sessions.commits._waiting)

        await until(decided)
        await lapse(redis, paused)
        heir = (await mortal()).verifier
        answers = hold(monkeypatch, heir._stepper, "step")
        await follow(device, heir)
        writes.set()
        await paused._sessions.commits.shorter_than(1)
        assert await redis.xlen(keys.inbox(paused.info.wid, "acme")) == 1
        wakes.set()
        back = await ready.get()
        assert back.info.wid not in {paused.info.wid, heir.info.wid}
        assert len(back._sessions) == 0
        assert await redis.xlen(keys.inbox(paused.info.wid, "acme")) == 1
        answers.set()
        assert (await verdict(device)).tokens == tuple(OWN[:4])
        await until_forgotten(redis, paused.info.wid)
        assert await read_log(redis, device.contract, device.seen) == []
        stop.set()
        await serving
