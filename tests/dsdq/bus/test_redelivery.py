"""Redelivery: a dead letter goes to the worker that could answer it now, or stays, with a sentence why."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.dead import DeadLetters, Kept, Kind
from dsdq.bus.inbox import Bounds, Inbox
from dsdq.bus.publishing import publish
from dsdq.bus.redelivery import redeliver
from dsdq.contract import Contract
from dsdq.errors import BusyError, ConfigError, GoneError, SealError
from dsdq.sealing import MAC_BYTES, Seal
from dsdq.wire import Cancel, Open, pack, pack_contract

CONTRACT = Contract("acme", "phone", "s1", "builtin/target", "f")
OPEN = pack(Open("s1", pack_contract(CONTRACT), (1, 2, 3)))
CANCEL = pack(Cancel("s1"))
SEAL = {"p": b"phone", "s": b"s1", "a": b"\x00" * MAC_BYTES}
HEAD = keys.session_head("phone", "acme", "s1")


@pytest.fixture
def dead(redis: Redis) -> DeadLetters:
    return DeadLetters(redis, Kept(letters=3))


async def buried(dead: DeadLetters, payload: bytes, seal: dict[str, bytes] | None = None) -> str:
    await dead.add("w1", "acme", "5-0", payload, Kind.FAILED, "failed three times", 3, seal)
    (letter,) = await dead.list(1)
    return letter.id


async def opened(redis: Redis, worker: str, bound: int = 4) -> Inbox:
    inbox = Inbox(redis, worker, ["acme"], DeadLetters(redis, Kept(letters=3)))
    await inbox.open(Bounds(bound, 0, 1 << 20))
    return inbox


@pytest.mark.parametrize(("payload", "seal"), [(OPEN, None), (CANCEL, SEAL)], ids=["open", "sealed"])
async def test_a_retried_letter_goes_to_the_sessions_present_owner(
    redis: Redis, dead: DeadLetters, payload: bytes, seal: dict[str, bytes] | None
) -> None:
    await opened(redis, "w1")
    owner = await opened(redis, "w2")
    await redis.hset(HEAD, mapping={"worker": "w2", "status": "open"})
    letter = await buried(dead, payload, seal)
    assert await redeliver(redis, dead, letter) == "w2"
    assert [entry.payload for entry in await owner.read(count=10, block_ms=1)] == [payload]
    assert await dead.list(1) == []


@pytest.mark.parametrize("payload", [OPEN, CANCEL, b"\xff"], ids=["unanswered open", "unsealed", "no message"])
async def test_without_a_known_owner_it_goes_to_the_worker_that_it_came_to(
    redis: Redis, dead: DeadLetters, payload: bytes
) -> None:
    inbox = await opened(redis, "w1")
    assert await redeliver(redis, dead, await buried(dead, payload)) == "w1"
    assert [entry.payload for entry in await inbox.read(count=10, block_ms=1)] == [payload]


async def test_a_letter_stays_when_its_worker_is_gone(redis: Redis, dead: DeadLetters) -> None:
    letter = await buried(dead, b"\xff")
    with pytest.raises(GoneError, match=f"letter {letter}: cannot be tried again"):
        await redeliver(redis, dead, letter)
    assert (await dead.show(letter)).payload == b"\xff"


async def test_a_letter_stays_when_its_session_is_closed(redis: Redis, dead: DeadLetters) -> None:
    await opened(redis, "w1")
    await redis.hset(HEAD, mapping={"worker": "w1", "status": "closed"})
    letter = await buried(dead, OPEN)
    with pytest.raises(GoneError, match="session s1 is closed"):
        await redeliver(redis, dead, letter)
    assert (await dead.show(letter)).payload == OPEN


async def test_a_letter_stays_when_the_inbox_is_full(redis: Redis, dead: DeadLetters) -> None:
    await opened(redis, "w1", bound=1)
    await publish(redis, "w1", "acme", b"before it")
    letter = await buried(dead, OPEN)
    with pytest.raises(BusyError):
        await redeliver(redis, dead, letter)
    assert (await dead.show(letter)).payload == OPEN


async def test_a_letter_that_was_cut_stays(redis: Redis, dead: DeadLetters) -> None:
    letter = await buried(dead, b"x" * 70_000)
    with pytest.raises(ConfigError, match="65536 of 70000 bytes"):
        await redeliver(redis, dead, letter)
    assert not (await dead.show(letter)).whole


async def test_a_letter_that_is_not_there_is_told_in_a_sentence(redis: Redis, dead: DeadLetters) -> None:
    with pytest.raises(ConfigError, match="expected the id of a dead letter"):
        await redeliver(redis, dead, "1-0")


async def test_a_sealed_letter_keeps_its_seal_and_an_unsealed_one_its_producer(redis: Redis, dead: DeadLetters) -> None:
    inbox = await opened(redis, "w1")
    await redeliver(redis, dead, await buried(dead, CANCEL, SEAL))
    (sealed,) = await inbox.read(count=1, block_ms=1)
    assert Seal.read(sealed.fields) == Seal("phone", "s1", SEAL["a"])
    await dead.add("w1", "acme", "6-0", CANCEL, Kind.FAILED, "failed three times", 3, {"p": b"phone"})
    await redeliver(redis, dead, (await dead.list(1))[0].id)
    (unsealed,) = await inbox.read(count=1, block_ms=1)
    assert (unsealed.producer, Seal.read(unsealed.fields)) == ("phone", None)


async def test_a_letter_with_half_a_seal_stays(redis: Redis, dead: DeadLetters) -> None:
    await opened(redis, "w1")
    letter = await buried(dead, CANCEL, {"p": b"phone", "s": b"s1"})
    with pytest.raises(SealError):
        await redeliver(redis, dead, letter)
    assert (await dead.show(letter)).payload == CANCEL
