"""Rounds that come with their session's open: answered once, wherever the open gets to, and never in anybody's way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.inbox import count_tries, left_behind
from dsdq.wire import Cancel, Closed, Decode, Draft, Error, ErrorCode, Open, Opened, unpack
from tests.workers.verifier.conftest import PROMPT, Wire
from tests.workers.verifier.mortals import OWN, Start, after, device_of, follow, hold, until_delivered, verdict
from workers.verifier.adoption import MOST_TRIES


def first_draft(device: Wire, tokens: Sequence[int] = OWN[:4]) -> Draft:
    return device.draft(tuple(tokens))


def with_draft(device: Wire) -> Open:
    return device.opening.with_round(first_draft(device))


async def opened(device: Wire) -> Opened:
    message = await device.next()
    assert isinstance(message, Opened), message
    return message


async def answered(device: Wire) -> None:
    """Wait for the verdict on the first draft, and see that nothing is left of it."""
    answer = await verdict(device)
    assert (answer.first_round, answer.last_round, answer.accepted) == (1, 1, 4)
    assert list(answer.tokens) == OWN[:5]
    await device.until_settled()
    assert not await device.redis.xlen(keys.DEAD_LETTERS)


async def test_a_draft_that_comes_with_the_open_is_verified(mortal: Start, redis: Redis) -> None:
    device = device_of(redis, (await mortal()).verifier)
    await device.send(with_draft(device))
    assert (await opened(device)).with_round
    await answered(device)
    await device.send(device.draft(tuple(OWN[5:7]), 2, **after(device, 5)))
    assert (await verdict(device)).accepted == 2


async def test_a_grant_that_comes_with_the_open_is_used_up(mortal: Start, redis: Redis) -> None:
    device = device_of(redis, (await mortal()).verifier)
    grant = Decode("s1", 0, 1, len(PROMPT), device.text.digest, budget=3)
    await device.send(device.opening.with_round(grant))
    assert (await opened(device)).with_round
    assert [(await verdict(device)).tokens[0] for _ in range(3)] == OWN[:3]
    await device.until_settled()


async def test_an_open_without_a_round_is_answered_as_one(mortal: Start, redis: Redis) -> None:
    device = device_of(redis, (await mortal()).verifier)
    assert not (await device.open()).with_round
    await device.until_settled()


async def test_a_round_waits_with_its_open_for_a_place(mortal: Start, redis: Redis) -> None:
    worker = await mortal(slots=1)
    first, second = (device_of(redis, worker.verifier, session) for session in ("s1", "s2"))
    await first.open()
    await second.send(with_draft(second))
    await until_delivered(redis, worker.verifier.info.wid, 1)
    await second.send(with_draft(second))  # and again, for it has no answer
    await first.send(first.draft(tuple(OWN[:4])))
    assert (await verdict(first)).accepted == 4
    await first.send(Cancel("s1"))
    assert isinstance(await first.next(), Closed)
    assert (await opened(second)).with_round
    await answered(second)


async def test_a_cancel_while_the_open_waits_leaves_nothing(mortal: Start, redis: Redis) -> None:
    worker = await mortal(slots=1)
    first, second = (device_of(redis, worker.verifier, session) for session in ("s1", "s2"))
    await first.open()
    await second.send(with_draft(second))
    await second.send(Cancel("s2"))
    await second.until_settled()
    assert not await redis.xlen(keys.DEAD_LETTERS)


async def test_a_refused_open_takes_its_round_with_it(mortal: Start, redis: Redis) -> None:
    device = device_of(redis, (await mortal()).verifier, max_tokens=1 << 20)
    await device.send(with_draft(device))
    error = await device.next()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.CONTEXT_TOO_LONG
    await device.until_settled()
    assert not await redis.xlen(keys.DEAD_LETTERS)


async def test_a_round_that_breaks_the_contract_ends_the_session(mortal: Start, redis: Redis) -> None:
    device = device_of(redis, (await mortal()).verifier, max_window=3)
    await device.send(with_draft(device))
    await opened(device)
    error = await device.next()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.WINDOW_TOO_LARGE
    await device.until_settled()


@pytest.mark.parametrize("again", ["open", "draft"])
async def test_what_is_repeated_is_answered_once(mortal: Start, redis: Redis, again: str) -> None:
    device = device_of(redis, (await mortal()).verifier)
    for _ in range(2):
        await device.send(with_draft(device))
    await opened(device)
    await answered(device)
    await device.send(with_draft(device) if again == "open" else first_draft(device))
    await device.send(device.draft(tuple(OWN[5:7]), 2, **after(device, 5)))
    assert (await verdict(device)).first_round == 2


async def test_a_round_does_not_come_with_an_open_of_another_text(mortal: Start, redis: Redis) -> None:
    device = device_of(redis, (await mortal()).verifier)
    await device.open()
    other = device_of(redis, device.verifier, seed=1)
    await device.send(with_draft(other))
    await device.send(device.draft(tuple(OWN[:2])))
    assert (await verdict(device)).accepted == 2
    await device.until_settled()


async def test_an_heir_answers_the_round_of_an_open_that_was_answered(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await mortal()
    hold(monkeypatch, worker.verifier._stepper._engine, "verify")
    device = device_of(redis, worker.verifier)
    await device.send(with_draft(device))
    assert (await opened(device)).with_round
    await worker.kill()
    heir = await mortal()
    assert not (await follow(device, heir.verifier)).with_round
    await answered(device)
    await device.send(first_draft(device))  # as a device does for a new owner
    await device.send(device.draft(tuple(OWN[5:7]), 2, **after(device, 5)))
    assert (await verdict(device)).first_round == 2


async def test_an_heir_answers_the_round_of_an_open_that_waited(mortal: Start, redis: Redis) -> None:
    worker = await mortal(slots=1)
    first, second = (device_of(redis, worker.verifier, session) for session in ("s1", "s2"))
    await first.open()
    await second.send(with_draft(second))
    await until_delivered(redis, worker.verifier.info.wid, 1)
    await worker.kill()
    second.verifier = (await mortal()).verifier
    assert (await opened(second)).with_round
    await answered(second)


async def test_a_round_that_ends_every_verifier_ends_its_session(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await mortal()
    hold(monkeypatch, worker.verifier._stepper._engine, "verify")
    device = device_of(redis, worker.verifier)
    await device.send(with_draft(device))
    await opened(device)
    wid = worker.verifier.info.wid
    left = [one async for page in left_behind(redis, wid, ["acme"]) for one in page]
    for _ in range(MOST_TRIES):
        await count_tries(redis, left)
    await worker.kill()
    await follow(device, (await mortal()).verifier)
    error = await device.next()
    assert isinstance(error, Error)
    assert error.code == ErrorCode.INTERNAL
    (letter,) = await device.letters(1)
    assert unpack(letter[b"m"]) == with_draft(device)
