"""Verifiers of two releases beside each other: sessions are opened in a version that all speak, and keep it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq.models.names import HASH_TARGET
from dsdq.processes import Child, spawn
from dsdq.testing.hashed import decode
from dsdq.wire import unpack, unpack_contract

NEXT_RELEASE = """
import sys
from dsdq import versions
versions.NEWEST, versions.SPOKEN = 2, (1, 2)
from dsdq.cli import main
sys.argv = ["dsdq", *sys.argv[1:]]
main()
"""
PROMPT = (5, 9, 12)


@asynccontextmanager
async def verifier(url: str, *, later: bool) -> AsyncIterator[Child]:
    program = ["-c", NEXT_RELEASE] if later else ["-m", "dsdq"]
    command = [sys.executable, *program, "verifier", "--target", HASH_TARGET]
    child = await spawn([*command, "--redis", url], stdout=True)
    try:
        assert (await child.read_line()).startswith("ready")
        yield child
    finally:
        await child.stop()


async def generate(client: dsdq.Client) -> None:
    generation = client.generate(PROMPT, draft="hash:0.8", window=2, max_tokens=20)
    assert [token.id async for token in generation] == decode(PROMPT, 20)


async def versions_in(redis: Redis) -> set[int]:
    """Return the versions of the contracts of all logs."""
    found = set()
    for key in await redis.keys("*:log"):
        opening = unpack((await redis.xrange(key, count=1))[0][1][b"o"])
        found.add(unpack_contract(opening.contract).version)  # type: ignore[union-attr]
    return found


async def test_a_session_outlives_the_upgrade_of_its_verifiers_to_the_next_release(
    redis: Redis, redis_url: str
) -> None:
    async with dsdq.connect(redis_url) as client, verifier(redis_url, later=False) as old:
        generation = client.generate(PROMPT, draft="hash:0.8", window=2, max_tokens=100)
        tokens = aiter(generation)
        await anext(tokens)
        async with verifier(redis_url, later=True):
            await old.stop()
            async for _ in tokens:
                pass
    assert generation.ids == decode(PROMPT, 100)
    assert generation.stats.takeovers == 1
    assert await versions_in(redis) == {1}


async def test_a_device_of_the_next_release_speaks_as_the_oldest_verifier_does(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = ("dsdq.versions", "dsdq.wire", "dsdq.wire.terms", "producers.device.finding")
    for place in (f"{module}.SPOKEN" for module in modules):
        monkeypatch.setattr(place, (1, 2))
    async with verifier(redis_url, later=True), dsdq.connect(redis_url) as client:
        await generate(client)
        assert await versions_in(redis) == {2}
        async with verifier(redis_url, later=False), dsdq.connect(redis_url) as another:
            await generate(another)
            assert await versions_in(redis) == {1, 2}
