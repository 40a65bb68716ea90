"""Dead letters: each kept once, whole, and counted for ever."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.dead import DeadLetters, Kept, Kind
from dsdq.errors import ConfigError

SEAL = {"p": b"phone", "s": b"s1", "a": b"\x00" * 16}


@pytest.fixture
def dead(redis: Redis) -> DeadLetters:
    return DeadLetters(redis, Kept(letters=3))


async def test_a_letter_is_kept_whole_with_all_that_tells_where_it_came_from(dead: DeadLetters) -> None:
    assert await dead.add("w1", "acme", "5-0", b"\xff" * 60_000, Kind.FAILED, "failed three times", 3, SEAL)
    (letter,) = await dead.list(10)
    assert (letter.worker, letter.tenant, letter.entry, letter.kind) == ("w1", "acme", "5-0", Kind.FAILED)
    assert (letter.reason, letter.attempts, letter.size_bytes) == ("failed three times", 3, 60_000)
    assert (letter.payload, letter.seal, letter.whole) == (b"\xff" * 60_000, SEAL, True)
    assert await dead.show(letter.id) == letter


async def test_burying_an_entry_again_makes_no_second_letter(dead: DeadLetters) -> None:
    assert await dead.add("w1", "acme", "5-0", b"x", Kind.MALFORMED, "no message")
    assert not await dead.add("w1", "acme", "5-0", b"x", Kind.MALFORMED, "no message")
    assert await dead.add("w2", "acme", "5-0", b"x", Kind.MALFORMED, "no message")
    assert await dead.add("w1", "globex", "5-0", b"x", Kind.MALFORMED, "no message")
    assert len(await dead.list(10)) == 3
    assert await dead.counts() == {"malformed": 3}


async def test_a_dropped_letter_does_not_come_back_with_the_crashed_worker_that_buried_it(dead: DeadLetters) -> None:
    await dead.add("w1", "acme", "5-0", b"x", Kind.MALFORMED, "no message")
    assert await dead.drop_all() == 1
    assert not await dead.add("w1", "acme", "5-0", b"x", Kind.MALFORMED, "no message")
    assert await dead.list(10) == []


async def test_only_the_newest_are_kept_but_all_are_counted(redis: Redis, dead: DeadLetters) -> None:
    for number in range(10):
        kind = Kind.FORGED if number % 2 else Kind.MALFORMED
        await dead.add("w1", "acme", f"{number}-0", b"%d" % number, kind, "no message")
    assert [letter.payload for letter in await dead.list(10)] == [b"9", b"8", b"7"]
    assert await dead.counts() == {"malformed": 5, "forged": 5}
    assert await redis.zcard(keys.DEAD_SEEN) == 3


async def test_the_list_is_read_page_by_page_newest_first(dead: DeadLetters) -> None:
    for number in range(3):
        await dead.add("w1", "acme", f"{number}-0", b"%d" % number, Kind.MALFORMED, "no message")
    first = await dead.list(2)
    second = await dead.list(2, after=first[-1].id)
    assert [letter.payload for letter in [*first, *second]] == [b"2", b"1", b"0"]


async def test_what_is_longer_than_a_message_is_cut_and_says_so(dead: DeadLetters) -> None:
    await dead.add("w1", "acme", "5-0", b"x" * 70_000, Kind.MALFORMED, "r" * 5_000)
    (letter,) = await dead.list(1)
    assert (len(letter.payload), letter.size_bytes, letter.whole, len(letter.reason)) == (65_536, 70_000, False, 1_024)


async def test_garbage_in_the_stream_is_listed_like_anything_else(redis: Redis, dead: DeadLetters) -> None:
    await redis.xadd(keys.DEAD_LETTERS, {b"\xff": b"\x00", b"worker": b"\xff\xfe", b"attempts": b"-1", b"size": b"?"})
    (letter,) = await dead.list(1)
    assert (letter.attempts, letter.size_bytes, letter.payload, letter.message) == (0, 0, b"", None)
    await dead.drop(letter.id)
    assert await dead.list(1) == []


@pytest.mark.parametrize("wrong", ["", "x", "1", "1-0-0", "9" * 30 + "-0", "1-0"])
async def test_an_id_that_no_letter_has_is_told_in_a_sentence(dead: DeadLetters, wrong: str) -> None:
    for ask in (dead.show, dead.drop):
        with pytest.raises(ConfigError, match="expected"):
            await ask(wrong)


async def test_the_oldest_go_when_their_bytes_are_too_many(redis: Redis) -> None:
    dead = DeadLetters(redis, Kept(bytes_=1_000))
    for number in range(5):
        await dead.add("w1", "acme", f"{number}-0", b"%d" % number * 400, Kind.MALFORMED, "no message")
    assert [letter.payload[:1] for letter in await dead.list(10)] == [b"4", b"3"]
    assert await redis.get(keys.DEAD_BYTES) == b"800"
    for letter in await dead.list(10):
        await dead.drop(letter.id)
    assert await redis.get(keys.DEAD_BYTES) == b"0"


async def test_a_letter_larger_than_all_that_is_kept_is_kept_alone(redis: Redis) -> None:
    dead = DeadLetters(redis, Kept(bytes_=10))
    for number in range(2):
        await dead.add("w1", "acme", f"{number}-0", b"%d" % number * 40, Kind.MALFORMED, "no message")
    assert [letter.payload for letter in await dead.list(10)] == [b"1" * 40]


async def test_letters_are_forgotten_in_time_and_stay_counted(redis: Redis) -> None:
    dead = DeadLetters(redis, Kept(age_ms=1_000))
    old = f"{int(time.time() * 1000) - 5_000}-0"
    await redis.xadd(keys.DEAD_LETTERS, {"m": b"old"}, id=old)
    await dead.add("w1", "acme", "1-0", b"new", Kind.MALFORMED, "no message")
    assert [letter.payload for letter in await dead.list(10)] == [b"new"]
    for key in (keys.DEAD_LETTERS, keys.DEAD_SEEN, keys.DEAD_BYTES):
        assert 0 < await redis.pttl(key) <= 1_000
    assert await redis.pttl(keys.DEAD_COUNTS) == -1
