"""``dsdq dead``: look at what no verifier could answer, drop it, or try it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import numpy as np
import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdq.bus.connection import open_redis
from dsdq.bus.dead import DeadLetters, Letter
from dsdq.bus.redelivery import redeliver
from dsdq.errors import ConfigError
from dsdq.settings import settings
from dsdq.wire import Message, Open, unpack_contract

SHOWN_BYTES = 512
T = TypeVar("T")
Url = Annotated[str | None, typer.Option("--redis", help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LetterId = Annotated[str, typer.Argument(metavar="ID", help="A letter's id, as `list` prints it.")]

dead = typer.Typer(no_args_is_help=True, help="Look at what no verifier could answer, drop it, or try it again.")


@dead.command("list")
def list_letters(
    redis: Url = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    after: Annotated[str, typer.Option(metavar="ID", help="Go on behind this letter.")] = "",
    as_json: AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """List dead letters, newest first, and how many there ever were of each kind."""

    async def _look(letters: DeadLetters, _: Redis) -> tuple[list[Letter], dict[str, int]]:
        return list(await letters.list(count, after)), await letters.counts()

    found, counts = _run(redis, _look)
    if as_json:
        typer.echo(json.dumps({"letters": [_facts(letter) for letter in found], "counts": counts}, indent=2))
        return
    table = Table("id", "kind", "tenant", "worker", "bytes", "tries", "reason", title="dead letters")
    for letter in found:
        numbers = (str(letter.size_bytes), str(letter.attempts))
        table.add_row(*map(_plain, (letter.id, letter.kind, letter.tenant, letter.worker, *numbers, letter.reason)))
    console = Console()
    console.print(table)
    ever = ", ".join(f"{kind} {number}" for kind, number in sorted(counts.items()))
    console.print(_plain(f"ever: {ever or 'none'}"))


@dead.command()
def show(
    letter_id: LetterId,
    redis: Url = None,
    as_json: AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Show one letter: why it is here, its bytes, and what they say if they are a message."""
    letter = _run(redis, lambda letters, _: letters.show(letter_id))
    facts = _facts(letter) | {"payload": letter.payload.hex(), "message": _fields(letter.message)}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    table = Table("field", "value", show_header=False)
    message = facts.pop("message")
    facts["payload"] = _shortened(letter.payload)
    for name, value in [*facts.items(), *((f"message.{name}", value) for name, value in (message or {}).items())]:
        table.add_row(_plain(name), _plain(str(value)))
    Console().print(table)


@dead.command()
def retry(letter_id: LetterId, redis: Url = None) -> None:
    """Put a letter's message into the inbox of its session's present verifier, and drop the letter."""
    worker = _run(redis, lambda letters, bus: redeliver(bus, letters, letter_id))
    typer.echo(f"sent to verifier {worker}")


@dead.command()
def drop(
    letter_id: Annotated[str, typer.Argument(metavar="[ID]", help="A letter's id, as `list` prints it.")] = "",
    redis: Url = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop every letter.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Forget one letter, or all of them; they stay counted."""
    if bool(letter_id) == everything:
        msg = "expected a letter's id, or --all"
        raise ConfigError(msg)
    if everything:
        typer.echo(f"dropped {_run(redis, lambda letters, _: letters.drop_all())}")
    else:
        _run(redis, lambda letters, _: letters.drop(letter_id))
        typer.echo("dropped 1")


def _run(url: str | None, ask: Callable[[DeadLetters, Redis], Awaitable[T]]) -> T:
    async def _connected() -> T:
        async with aclosing(open_redis(url or settings().redis_url)) as redis:
            return await ask(DeadLetters(redis), redis)

    return asyncio.run(_connected())


def _facts(letter: Letter) -> dict[str, Any]:
    """Return all of a letter but its payload, as JSON can carry it."""
    facts: dict[str, Any] = _readable(asdict(letter)) | {"whole": letter.whole}
    del facts["payload"]
    return facts


def _fields(message: Message | None) -> dict[str, Any] | None:
    """Return a message's fields, an ``open``'s contract spelt out; None where there is no message."""
    if message is None:
        return None
    fields: dict[str, Any] = {"type": type(message).__name__.lower(), **_readable(asdict(message))}
    if isinstance(message, Open):
        fields["contract"] = _readable(asdict(unpack_contract(message.contract, with_unknown=True)))
    return fields


def _readable(value: Any) -> Any:  # noqa: ANN401 - what a dataclass may hold
    """Return a value with bytes in hex and arrays as lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _readable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(one) for one in value]
    return value


def _shortened(payload: bytes) -> str:
    rest = len(payload) - SHOWN_BYTES
    return payload[:SHOWN_BYTES].hex() + (f" … and {rest} bytes more; --json prints all" if rest > 0 else "")


def _plain(text: str) -> Text:
    """Return text that no letter can make a terminal obey: control characters and markup are shown, not followed."""
    return Text("".join(one if one.isprintable() else repr(one)[1:-1] for one in text))
