"""What verifiers die of, or fail at: it is put away with its session, and nobody else pays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.inbox import count_tries, left_behind
from dsdq.bus.sessions import place_of
from dsdq.wire import Error, ErrorCode, Open, Opened, unpack
from tests.workers.verifier.conftest import PROMPT, Wire
from tests.workers.verifier.mortals import (
    OWN,
    Mortal,
    Start,
    after,
    device_of,
    follow,
    hold,
    until,
    until_delivered,
    until_forgotten,
    verdict,
)
from workers.engine.hashed import HashEngine
from workers.engine.rounds import Judged, Judgement
from workers.engine.rows import Row
from workers.verifier.adoption import MOST_TRIES


async def mortal_that_dies(mortal: Start, monkeypatch: pytest.MonkeyPatch) -> Mortal:
    """Start a verifier whose steps do not end."""
    started = await mortal()
    hold(monkeypatch, started.verifier._stepper._engine, "verify")
    return started


async def until_counted(redis: Redis, device: Wire, worker: str, deaths: int) -> None:
    async def counted() -> bool:
        found = await redis.hget(keys.worker_tries(worker), str(place_of(device.contract)))
        return int(found or 0) == deaths

    await until(counted)


async def test_a_session_that_the_forward_fails_on_ends_while_its_neighbours_go_on(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, failed = HashEngine.verify, list[int]()

    def poisoned(engine: HashEngine, rows: Sequence[Row], rounds: Sequence[Judged], secret: int) -> list[Judgement]:
        if any(row.session.endswith("bad") for row in rows):
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
    await good.until_settled()
    await bad.send(bad.draft((1,)))
    await until_delivered(redis, wid, 1)
    await first.kill()
    for _ in range(MOST_TRIES):
        await count_tries(redis, [one async for page in left_behind(redis, wid, ["acme"]) for one in page])
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


async def test_a_text_that_verifiers_died_feeding_three_times_is_put_away_with_its_session(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await mortal()
    bad = device_of(redis, one.verifier, "bad")
    hold(monkeypatch, one.verifier._stepper, "step")
    await bad.open()
    await one.kill()
    for died in range(MOST_TRIES):  # each of these ends in the step that feeds the text
        one = await mortal_that_dies(mortal, monkeypatch)
        opened = await bad.next()
        assert isinstance(opened, Opened)
        assert opened.worker == one.verifier.info.wid
        await until_counted(redis, bad, one.verifier.info.wid, died + 1)
        await one.kill()
    monkeypatch.undo()
    last = await mortal()
    assert isinstance(await bad.next(), Opened)
    error = await bad.next()
    assert isinstance(error, Error)
    assert (error.code, error.message) == (ErrorCode.INTERNAL, "3 verifiers fed its text and died")
    (letter,) = await bad.letters(1)
    opening = unpack(letter[b"m"])
    assert isinstance(opening, Open)
    assert opening.prompt == PROMPT
    good = device_of(redis, last.verifier, "good")
    await good.open()
    await good.send(good.draft(tuple(OWN[:2])))
    assert (await verdict(good)).tokens == tuple(OWN[:3])


async def test_who_feeds_an_inherited_text_to_its_end_clears_it_of_all_blame(mortal: Start, redis: Redis) -> None:
    first = await mortal()
    device = device_of(redis, first.verifier)
    await device.open()
    await first.kill()
    heir = (await mortal()).verifier
    await follow(device, heir)
    await device.send(device.draft(tuple(OWN[:2])))
    assert (await verdict(device)).tokens == tuple(OWN[:3])
    assert await redis.hgetall(keys.worker_tries(heir.info.wid)) == {}
