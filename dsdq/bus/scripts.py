"""The Lua scripts, loaded by name. Each opens with its key schema and touches one slot."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from redis.asyncio import Redis
from redis.commands.core import AsyncScript


def load(redis: Redis, name: str) -> AsyncScript:
    """Return the script ``name`` bound to a connection; it is sent once and then called by its hash."""
    return redis.register_script(_source(name))


@cache
def _source(name: str) -> str:
    return files("dsdq.bus").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
