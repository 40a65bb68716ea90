"""Verifiers that die, pause or find their log cut: their sessions go on elsewhere, with the same text, at most once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.inbox import GROUP, count_tries, left_behind
from dsdq.bus.sessions import Commit, CommitStatus, SessionStore, place_of, read_entries, read_log
from dsdq.contract import Contract, FinishReason, Rule
from dsdq.drafting import Drafter
from dsdq.errors import SessionError
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.settings import Settings
from dsdq.tasks import end
from dsdq.testing.hashed import decode
from dsdq.wire import Cancel, Closed, Decode, Error, ErrorCode, Gap, Message, Opened, Verdict, unpack
from producers.drafters.recorded import RecordedDrafter
from tests.conftest import Serve
from tests.workers.verifier.conftest import PROMPT, Wire
from workers.engine.hashed import HashEngine
from workers.engine.rounds import Judged, Judgement
from workers.engine.rows import Row
from workers.verifier import stepping
from workers.verifier.assembly import assemble
from workers.verifier.incarnations import serve as serve_incarnations
from workers.verifier.recovery import MOST_TRIES
from workers.verifier.service import Verifier

OWN = decode(PROMPT, 300)
LIMIT_S = 30


@dataclass
class Mortal:
    """A verifier that can be killed: it says nothing to anybody, and leaves all as it is."""

    redis: Redis
    verifier: Verifier
    serving: asyncio.Task[None]
    killed: bool = False

    async def kill(self) -> None:
        self.killed = True
        await end(self.serving)
        await lapse(self.redis, self.verifier)


async def lapse(redis: Redis, verifier: Verifier) -> None:
    """Let a verifier's lease lapse, without waiting for it."""
    await redis.zadd(keys.workers(HASH_TARGET), {verifier.info.wid: 1}, xx=True)


Start = Callable[..., Awaitable[Mortal]]


@pytest.fixture
async def mortal(redis: Redis, redis_url: str) -> AsyncIterator[Start]:
    """Return a function that starts a verifier of the hash model; those that end unasked fail the test."""
    started: list[Mortal] = []
    blocks: list[Any] = []

    async def start(**changed: Any) -> Mortal:
        chosen = Settings(redis_url=redis_url, **{"tenants": ("acme",), **changed})
        blocks.append(assemble(redis_url, HASH_TARGET, "cpu", "float32", chosen))
        verifier, ready = (await blocks[-1].__aenter__())(), asyncio.Event()
        started.append(Mortal(redis, verifier, asyncio.create_task(verifier.run(asyncio.Event(), ready))))
        await ready.wait()
        return started[-1]

    yield start
    for one in started:
        if one.serving.done() and not one.killed:
            one.serving.result()
        await one.kill()
    for block in blocks:
        await block.__aexit__(None, None, None)


@asynccontextmanager
async def within() -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT_S):
        yield


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with within():
        while not await holds():
            await asyncio.sleep(0.005)


def device_of(redis: Redis, owner: Verifier, session: str = "s1", **changed: Any) -> Wire:
    contract = Contract("acme", "phone", session, HASH_TARGET, Tokenizer.load(HASH_TARGET).fingerprint)
    return Wire(redis, owner, replace(contract, **{"max_tokens": 100, "max_window": 8, **changed}), HASH_TARGET)


def after(device: Wire, count: int) -> dict[str, Any]:
    """Return the place of a round behind ``count`` tokens of the model's own."""
    text = device.text
    text.extend(OWN[:count])
    return {"base": text.length, "digest": text.digest}


async def follow(device: Wire, heir: Verifier, length: int = len(PROMPT)) -> Opened:
    """Wait until ``heir`` says that it has a session, with a text of ``length`` tokens, and turn to it."""
    opened = await device.next()
    assert isinstance(opened, Opened)
    assert (opened.worker, opened.epoch, opened.length) == (heir.info.wid, 2, length)
    assert opened.digest == (await device_digest(device, length))
    device.verifier = heir
    return opened


async def device_digest(device: Wire, length: int) -> bytes:
    text = device.text
    text.extend(OWN[: length - len(PROMPT)])
    return text.digest


async def verdict(device: Wire) -> Verdict:
    message = await device.next()
    assert isinstance(message, Verdict), message
    return message


async def until_forgotten(redis: Redis, worker: str) -> None:
    async def gone() -> bool:
        return not await redis.keys(f"{{w.{worker}}}*") and not await redis.zscore(keys.workers(HASH_TARGET), worker)

    await until(gone)


def hold(monkeypatch: pytest.MonkeyPatch, whose: Any, name: str) -> asyncio.Event:
    """Let every call of a coroutine function wait for the event that is returned."""
    gate, function = asyncio.Event(), getattr(whose, name)

    async def held(*arguments: Any, **named: Any) -> Any:
        await gate.wait()
        return await function(*arguments, **named)

    monkeypatch.setattr(whose, name, held)
    return gate


async def until_delivered(redis: Redis, worker: str, count: int) -> None:
    async def delivered() -> bool:
        return int((await redis.xpending(keys.inbox(worker, "acme"), GROUP))["pending"]) == count

    await until(delivered)


# Death


@pytest.mark.parametrize("draft", ["none", "ngram", "hash:0.5", RecordedDrafter(0.8)], ids=str)
async def test_a_text_goes_on_as_if_nothing_had_happened(mortal: Start, redis_url: str, draft: str | Drafter) -> None:
    first = await mortal(hash_step_ms=2)
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=draft, max_tokens=300, window=4)
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


async def test_a_round_that_was_answered_but_not_acknowledged_is_answered_once(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mortal()
    device = device_of(redis, first.verifier)
    await device.open()
    await device.until_settled()
    hold(monkeypatch, first.verifier._inbox, "settle")
    await device.send(device.draft(tuple(OWN[:3])))
    await verdict(device)
    await first.kill()
    await follow(device, (await mortal()).verifier, len(PROMPT) + 4)
    await until_forgotten(redis, first.verifier.info.wid)
    assert await read_log(redis, device.contract, device.seen) == []


async def test_what_is_left_of_a_session_that_has_ended_holds_nobody_up(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mortal()
    device = device_of(redis, first.verifier)
    await device.open()
    await device.until_settled()
    hold(monkeypatch, first.verifier._inbox, "settle")
    await device.send(Cancel("s1"))
    assert isinstance(await device.next(), Closed)
    await first.kill()
    await mortal()
    await until_forgotten(redis, first.verifier.info.wid)


async def test_a_session_that_was_refused_while_its_verifier_died_holds_nobody_up(mortal: Start, redis: Redis) -> None:
    first = await mortal()
    device = device_of(redis, first.verifier)
    refusal = Error("s1", ErrorCode.UNTRUSTED, "no")
    await first.verifier._sessions.refuse(device.opening, device.contract, refusal.code, refusal.message)
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


# Poison


async def test_a_session_that_the_forward_fails_on_ends_while_its_neighbours_go_on(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, failed = HashEngine.verify, list[int]()

    def poisoned(engine: HashEngine, rows: Sequence[Row], rounds: Sequence[Judged], secret: int) -> list[Judgement]:
        if any(row.session == "bad" for row in rows):
            failed.append(len(rows))
            msg = "poison"
            raise ValueError(msg)
        return verify(engine, rows, rounds, secret)

    one = await mortal()
    bad, good = device_of(redis, one.verifier, "bad"), device_of(redis, one.verifier, "good")
    await good.open()
    await bad.open()
    monkeypatch.setattr(HashEngine, "verify", poisoned)
    for device in (bad, good):
        await device.send(device.draft(tuple(OWN[:2])))
    error = await bad.next()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.INTERNAL
    assert (await verdict(good)).tokens == tuple(OWN[:3])
    assert failed.count(1) == MOST_TRIES
    await good.send(good.draft((OWN[3],), 2, **after(good, 3)))
    assert (await verdict(good)).tokens == tuple(OWN[3:5])
    (letter,) = await bad.letters(1)
    assert b"failed 3 times" in letter[b"reason"]
    await good.until_settled()


async def test_a_message_that_verifiers_died_with_three_times_is_put_away_with_its_session(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mortal()
    wid = first.verifier.info.wid
    bad, good = device_of(redis, first.verifier, "bad"), device_of(redis, first.verifier, "good")
    hold(monkeypatch, first.verifier._stepper, "step")
    await bad.open()
    await good.open()
    await bad.send(bad.draft((1,)))
    await until_delivered(redis, wid, 1)
    await first.kill()
    for _ in range(MOST_TRIES):
        await count_tries(redis, await left_behind(redis, wid, ["acme"]))
    await good.send(good.draft(tuple(OWN[:2])))
    heir = (await mortal()).verifier
    await follow(bad, heir)
    error = await bad.next()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.INTERNAL
    await follow(good, heir)
    assert (await verdict(good)).tokens == tuple(OWN[:3])
    (letter,) = await bad.letters(1)
    assert b"3 verifiers began a step with it and died" in letter[b"reason"]
    await until_forgotten(redis, wid)


# A pause


async def test_a_verifier_that_was_paused_comes_back_under_a_new_id_and_acknowledges_nothing_it_lost(
    mortal: Start, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, ready = asyncio.Event(), asyncio.Queue[Verifier]()
    chosen = Settings(redis_url=redis_url, tenants=("acme",))
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


# A log that lost its end


async def cut_log(redis: Redis, contract: Contract, lost: int) -> int:
    """Let Redis forget the last entries of a log, and its head with them; return the length that is left."""
    place = place_of(contract)
    kept = (await redis.xrange(place.log))[:-lost]
    *_, last = (one for one in (unpack(fields[b"m"]) for _, fields in kept) if isinstance(one, Verdict))
    await redis.delete(place.log)
    for entry_id, fields in kept:
        await redis.xadd(place.log, fields, id=entry_id)
    branch = last.branch + (last.accepted < last.drafted)
    head = {"entries": len(kept), "length": last.length, "digest": last.digest, "round": last.last_round}
    await redis.hset(place.head, mapping={**head, "branch": branch})
    return last.length


@asynccontextmanager
async def nobody_writes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Lock]:
    """Give the lock that every commit holds."""
    writing, write = asyncio.Lock(), SessionStore.commit

    async def locked(store: SessionStore, commits: Sequence[Commit]) -> list[CommitStatus]:
        async with writing:
            return await write(store, commits)

    monkeypatch.setattr(SessionStore, "commit", locked)
    yield writing


@pytest.mark.parametrize("draft", ["none", "hash:0.5", RecordedDrafter(1.0)], ids=str)
async def test_what_redis_lost_is_said_again_and_nothing_is_shown_twice(
    mortal: Start, redis: Redis, redis_url: str, draft: str | Drafter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nobody_writes(monkeypatch) as writing, dsdq.connect(redis_url, tenant="acme") as client:
        one = await mortal(hash_step_ms=2)
        generation = client.generate(PROMPT, draft=draft, max_tokens=300, window=4)
        shown = []
        async for token in generation:
            shown.append(token.id)
            if len(shown) in {40, 120}:
                async with writing:
                    (held,) = one.verifier._sessions
                    assert await cut_log(redis, held.state.contract, lost=3) < len(PROMPT) + len(shown)
    assert shown == OWN
    assert generation.ids == OWN
    assert generation.stats.takeovers == 2


async def test_coins_that_were_tossed_are_not_tossed_again(
    mortal: Start, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nobody_writes(monkeypatch) as writing, dsdq.connect(redis_url, tenant="acme") as client:
        one = await mortal(hash_step_ms=2, trusted_tenants=("acme",))
        generation = client.generate(PROMPT, draft="none", max_tokens=300, rule=Rule.REJECTION, trusted=True)
        shown: list[int] = []

        async def watch() -> None:
            async for token in generation:
                shown.append(token.id)
                if len(shown) == 40:
                    async with writing:
                        (held,) = one.verifier._sessions
                        await cut_log(redis, held.state.contract, lost=3)

        with pytest.raises(SessionError) as error:
            await watch()
    assert error.value.code == ErrorCode.LOG_LOST
    assert shown == OWN[: len(shown)]


# Rounds ahead


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


async def test_a_round_that_is_missing_is_asked_for_and_the_one_that_waits_is_answered_too(
    serve: Serve, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "GAP_S", 0)
    gap, *said = await replies(serve, redis, 2, 1)
    assert gap == Gap("s1", len(PROMPT))
    assert [token for one in said if isinstance(one, Verdict) for token in one.tokens] == OWN[:3]
