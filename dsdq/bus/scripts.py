"""The Lua scripts, called by name. Each opens with its key schema and touches one slot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

Argument = str | bytes | int
Call = tuple[Sequence[str], Sequence[Argument]]
"""Keys and arguments of one call."""


async def call(redis: Redis, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:  # noqa: ANN401
    """Run one script and return its answer."""
    (answer,) = await call_many(redis, name, [(keys, arguments)])
    return answer


async def call_many(redis: Redis, name: str, calls: Sequence[Call]) -> list[Any]:
    """Run one script several times in one round trip, in order, and return the answers.

    Raises:
        RedisError: of the first call that failed; the others were run.
    """
    answers = await _run(redis, name, calls)
    unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:  # first use of this server, or it was restarted
        await redis.script_load(_source(name)[0])
        for place, answer in zip(unknown, await _run(redis, name, [calls[place] for place in unknown]), strict=True):
            answers[place] = answer
    for answer in answers:
        if isinstance(answer, RedisError):
            raise answer
    return answers


async def _run(redis: Redis, name: str, calls: Sequence[Call]) -> list[Any]:
    pipeline = redis.pipeline(transaction=False)
    for keys, arguments in calls:
        pipeline.evalsha(_source(name)[1], len(keys), *keys, *arguments)
    answers: list[Any] = await pipeline.execute(raise_on_error=False)
    return answers


@cache
def _source(name: str) -> tuple[str, str]:
    text = files("dsdq.bus").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return text, sha1(text.encode()).hexdigest()  # noqa: S324 - the name that Redis gives a script
