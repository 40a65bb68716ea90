"""``dsdq dead``: what an operator sees of dead letters and can do with them, whatever lies in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from dsdq import keys
from dsdq.bus.dead import DeadLetters, Kind, Letter
from dsdq.bus.inbox import Bounds, Inbox
from dsdq.commands.dead import _facts, _fields, dead
from dsdq.contract import Contract
from dsdq.errors import ConfigError
from dsdq.wire import Draft, Message, Open, pack, pack_contract
from tests.dsdq.wire.strategies import MESSAGES

Run = Callable[..., Awaitable[Result]]

CONTRACT = Contract("acme", "phone", "s1", "builtin/target", "f", max_tokens=77)
OPEN = pack(Open("s1", pack_contract(CONTRACT), (1, 2, 3)))
DRAFT = pack(Draft("s1", 0, 1, 3, b"\xab" * 16, (5, 6)))


@pytest.fixture
def letters(redis: Redis) -> DeadLetters:
    return DeadLetters(redis)


@pytest.fixture
def run(redis_url: str) -> Run:
    async def command(*arguments: str) -> Result:
        wide = {"COLUMNS": "400"}
        return await asyncio.to_thread(CliRunner(env=wide).invoke, dead, [*arguments, "--redis", redis_url])

    return command


async def buried(letters: DeadLetters, payload: bytes, entry: str = "5-0") -> str:
    await letters.add("w1", "acme", entry, payload, Kind.UNKNOWN_SESSION, "unknown session s1")
    return (await letters.list(1))[0].id


async def test_the_list_names_every_letter_and_counts_all_that_there_were(letters: DeadLetters, run: Run) -> None:
    first, second = await buried(letters, b"x", "1-0"), await buried(letters, b"yy", "2-0")
    await letters.drop(first)
    shown = (await run("list")).output
    assert second in shown
    assert first not in shown
    assert "unknown session s1" in shown
    assert "ever: unknown_session 2" in shown
    told = json.loads((await run("list", "--json")).output)
    assert [letter["id"] for letter in told["letters"]] == [second]
    assert told["counts"] == {"unknown_session": 2}


async def test_the_list_goes_on_behind_a_letter(letters: DeadLetters, run: Run) -> None:
    ids = [await buried(letters, b"x", f"{number}-0") for number in range(3)]
    told = json.loads((await run("list", "--json", "--count", "1", "--after", ids[2])).output)
    assert [letter["id"] for letter in told["letters"]] == [ids[1]]


async def test_a_letter_is_shown_with_its_bytes_and_what_they_say(letters: DeadLetters, run: Run) -> None:
    letter = await buried(letters, DRAFT)
    shown = (await run("show", letter)).output
    for expected in (DRAFT.hex(), "unknown session s1", "acme", "w1", "message.type", "draft", "[5, 6]", "ab" * 16):
        assert expected in shown
    told = json.loads((await run("show", letter, "--json")).output)
    assert told["message"]["tokens"] == [5, 6]
    assert told["payload"] == DRAFT.hex()


async def test_an_open_is_shown_with_its_contract_spelt_out(letters: DeadLetters, run: Run) -> None:
    told = json.loads((await run("show", await buried(letters, OPEN), "--json")).output)
    assert told["message"]["contract"]["max_tokens"] == 77


async def test_long_bytes_are_cut_for_people_and_whole_in_json(letters: DeadLetters, run: Run) -> None:
    letter = await buried(letters, b"\x00" * 2_000)
    assert "1488 bytes more" in (await run("show", letter)).output
    assert len(json.loads((await run("show", letter, "--json")).output)["payload"]) == 4_000


async def test_garbage_in_a_letter_breaks_nothing_and_commands_no_terminal(redis: Redis, run: Run) -> None:
    raw = {b"reason": b"\x1b[2J[bold]\xff\n", b"kind": b"[red]", b"m": b"\xc1", b"attempts": b"many"}
    letter = (await redis.xadd(keys.DEAD_LETTERS, raw)).decode()
    for shown in (await run("list"), await run("show", letter)):
        assert shown.exit_code == 0
        assert "\x1b[2J" not in shown.output
        assert "\\x1b[2J[bold]" in shown.output
    assert json.loads((await run("show", letter, "--json")).output)["message"] is None


@settings(max_examples=60)
@given(MESSAGES)
def test_every_message_can_be_shown(message: Message) -> None:
    letter = Letter("1-0", "w1", "acme", "5-0", Kind.FAILED, "failed", 3, 1, pack(message), {"a": b"\xff"})
    assert json.dumps(_facts(letter) | {"message": _fields(letter.message)})


async def test_a_letter_is_tried_again(redis: Redis, letters: DeadLetters, run: Run) -> None:
    await Inbox(redis, "w1", ["acme"], letters).open(Bounds(4, 0, 1 << 20))
    result = await run("retry", await buried(letters, OPEN))
    assert result.output == "sent to verifier w1\n"
    assert await redis.xlen(keys.inbox("w1", "acme")) == 1


async def test_one_letter_is_dropped_or_all_but_never_by_saying_nothing(letters: DeadLetters, run: Run) -> None:
    ids = [await buried(letters, b"x", f"{number}-0") for number in range(3)]
    assert isinstance((await run("drop")).exception, ConfigError)
    assert (await run("drop", ids[0])).output == "dropped 1\n"
    assert [letter.id for letter in await letters.list(10)] == [ids[2], ids[1]]
    assert (await run("drop", "--all")).output == "dropped 2\n"
    assert await letters.list(10) == []
