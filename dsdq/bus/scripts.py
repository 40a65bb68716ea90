"""The Lua scripts, called by name. Each opens with its key schema and touches one slot."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, NoScriptError

from dsdq.bus.connection import translated

Argument = str | bytes | int
Call = tuple[Sequence[str], Sequence[Argument]]
"""Keys and arguments of one call."""


async def call(redis: Redis, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:  # noqa: ANN401
    """Run one script and return its answer."""
    (answer,) = await call_many(redis, name, [(keys, arguments)])
    return answer


async def call_many(redis: Redis, name: str, calls: Sequence[Call]) -> list[Any]:
    """Run one script several times in one round trip, or one for each node of a cluster, and return the answers.

    Calls on the same keys are run in order.

    Raises:
        RedisError: of the first call that failed; the others were run.
    """
    answers = await answers_of(redis, name, calls, with_text=_come_again(calls))
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


async def answers_of(redis: Redis, name: str, calls: Sequence[Call], *, with_text: Container[int] = ()) -> list[Any]:
    """Return the answers of calls that go in one round trip; that of a call that failed is its error.

    The calls in the places ``with_text`` bring the script's text. Without any, calls on the same keys may be run in
    another order where the server does not know the script.
    """
    answers = await _run(redis, name, calls, with_text=with_text)
    unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:  # first use of this server, or it was restarted, or another has taken its place
        again = [calls[place] for place in unknown]
        for place, answer in zip(unknown, await _run(redis, name, again, with_text=range(len(again))), strict=True):
            if not isinstance(answer, NoPermissionError):  # else what this user lacks is the script, not a right
                answers[place] = answer
    return answers


async def load(redis: Redis, *names: str) -> None:
    """Bring the named scripts, or all, to the server, or to each primary of a cluster: devices may not be allowed to.

    Raises:
        RedisUnavailableError: no answer.
        DeniedError: this user may not.
    """
    with translated():
        for name in names or [file.name.removesuffix(".lua") for file in files("dsdq.bus").joinpath("lua").iterdir()]:
            await redis.script_load(_source(name)[0])


def _come_again(calls: Sequence[Call]) -> list[int]:
    """Return the first call of those whose keys come again.

    It is sent with the script's text. Otherwise a script that somebody else loads between two calls of a pipeline would
    let the second run, and the first, for which it was not known yet, after it.
    """
    places: dict[tuple[str, ...], list[int]] = {}
    for place, (keys, _) in enumerate(calls):
        places.setdefault(tuple(keys), []).append(place)
    return [same[0] for same in places.values() if len(same) > 1]


async def _run(redis: Redis, name: str, calls: Sequence[Call], *, with_text: Container[int]) -> list[Any]:
    text, digest = _source(name)
    pipeline = redis.pipeline(transaction=False)
    for place, (keys, arguments) in enumerate(calls):
        # By its plain name: the method of a cluster's pipeline refuses, though a script's keys say where it belongs.
        how = ("EVAL", text) if place in with_text else ("EVALSHA", digest)
        pipeline.execute_command(*how, len(keys), *keys, *arguments)
    answers: list[Any] = await pipeline.execute(raise_on_error=False)
    return answers


@cache
def _source(name: str) -> tuple[str, str]:
    text = files("dsdq.bus").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return text, sha1(text.encode()).hexdigest()  # noqa: S324 - the name that Redis gives a script
