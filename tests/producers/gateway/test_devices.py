"""A device that reaches no Redis: its texts over a gateway's WebSocket are those over Redis, whatever happens."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import dsdq
from dsdq.bus.embedded import free_port
from dsdq.contract import Sampling
from dsdq.models.names import HASH_TARGET
from dsdq.processes import Child, spawn
from dsdq.testing.hashed import decode
from dsdq.testing.servers import RealServer
from tests.conftest import Serve
from tests.producers.gateway.conftest import OpenGateway, gateway_at, socket_at
from tests.producers.gateway.raw import Cutter
from tests.workers.verifier.conftest import mortal

__all__ = ["mortal"]

PROMPT, TOKENS = [1, 2, 3], 60
WAYS = [(0.0, 1), (0.0, 3), (1.0, 3)]


async def text_of(client: dsdq.Client, prompt: list[int], tokens: int, *, temperature: float, **asked: Any) -> int:
    """Ask for a text, see that it is the right one, and return how often its device asked again."""
    chosen = Sampling(temperature)
    generation = client.generate(prompt, sampling=chosen, seed=7, max_tokens=tokens, **({"draft": "hash:0.8"} | asked))
    assert [token.id async for token in generation] == decode(prompt, tokens, chosen, 7)
    assert generation.finish_reason == "length"
    return generation.stats.repeats


@pytest.mark.parametrize("draft", ["hash:0.8", "none", "ngram"])
@pytest.mark.parametrize(("temperature", "depth"), WAYS)
async def test_a_text_is_the_same_over_a_gateway_as_over_redis(
    serve: Serve, open_gateway: OpenGateway, redis_url: str, draft: str, temperature: float, depth: int
) -> None:
    async with (
        serve(HASH_TARGET),
        open_gateway() as url,
        dsdq.connect(redis_url) as direct,
        dsdq.connect(socket_at(url)) as through,
    ):
        for client in (direct, through):
            repeats = await text_of(client, PROMPT, TOKENS, temperature=temperature, depth=depth, draft=draft)
            assert repeats == 0


async def test_many_sessions_of_one_device_and_many_devices(serve: Serve, open_gateway: OpenGateway) -> None:
    async with serve(HASH_TARGET), open_gateway() as url, asyncio.TaskGroup() as running:
        clients = [dsdq.connect(socket_at(url)) for _ in range(8)]
        for client in clients:
            await client.__aenter__()
        texts = [
            running.create_task(text_of(client, [number, at], 30, temperature=number % 2))
            for number in range(6)
            for at, client in enumerate(clients)
        ]
        await asyncio.gather(*texts)
        for client in clients:
            await client.__aexit__(None, None, None)


async def test_who_stops_listening_ends_the_session(serve: Serve, open_gateway: OpenGateway) -> None:
    async with (
        serve(HASH_TARGET, hash_step_ms=5) as verifier,
        open_gateway() as url,
        dsdq.connect(socket_at(url)) as client,
    ):
        generation = client.generate(PROMPT, draft="hash:0.8", max_tokens=2000)
        await anext(aiter(generation))
        await generation.aclose()
        while len(verifier._sessions):
            await asyncio.sleep(0.01)
        assert await text_of(client, PROMPT, 10, temperature=0) == 0


async def test_a_connection_that_is_cut_again_and_again_changes_nothing(
    serve: Serve, open_gateway: OpenGateway
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    async with (
        serve(HASH_TARGET, hash_step_ms=2),
        open_gateway() as url,
        Cutter(socket_at(url), random.Random(seed), 1_000, 12_000) as cutter,
        dsdq.connect(cutter.url) as client,
    ):
        texts = [
            text_of(client, [number, number + 1], 150, temperature=number % 2, depth=1 + number % 3)
            for number in range(6)
        ]
        await asyncio.gather(*texts)
    assert cutter.cuts >= 5


@asynccontextmanager
async def process(redis_url: str, port: int) -> AsyncIterator[Child]:
    """Run a gateway as a process at a port."""
    command = [sys.executable, "-m", "dsdq", "gateway", "--redis", redis_url, "--port", str(port), "--draft", "ngram"]
    gateway = await spawn(["env", "DSDQ_ALLOW_UNSAFE_REDIS=1", *command], stdout=True)
    try:
        assert (await gateway.read_line()).startswith("ready: ")
        yield gateway
    finally:
        await gateway.stop()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_a_gateway_that_ends_and_comes_back_costs_a_pause(
    serve: Serve, redis_url: str, end: signal.Signals
) -> None:
    port, tokens = free_port(), 400
    place = f"ws://127.0.0.1:{port}"
    async with (
        serve(HASH_TARGET, hash_step_ms=5),
        process(redis_url, port) as first,
        dsdq.connect(place) as client,
        dsdq.connect(place) as idle,
    ):
        generations = [
            client.generate([number], sampling=Sampling(number % 2), seed=7, max_tokens=tokens, draft="hash:0.8")
            for number in range(4)
        ]
        texts = [[(await anext(aiter(generation))).id] for generation in generations]
        first.send_signal(end)
        assert (await first.wait() == 0) == (end is signal.SIGTERM)
        async with process(redis_url, port):
            for number, (generation, text) in enumerate(zip(generations, texts, strict=True)):
                text += [token.id async for token in generation]
                assert text == decode([number], tokens, Sampling(number % 2), 7)
            await text_of(idle, PROMPT, 10, temperature=0)


async def test_a_verifier_that_is_killed_is_taken_over_unseen(
    mortal: Callable[..., Awaitable[Any]], open_gateway: OpenGateway
) -> None:
    quick = {"tenants": ("default",), "lease_ms": 500, "hash_step_ms": 5, "allow_unsafe_redis": True}
    first = await mortal(**quick)
    async with open_gateway() as url, dsdq.connect(socket_at(url)) as client:
        generation = client.generate(PROMPT, draft="hash:0.8", max_tokens=200)
        text = [(await anext(aiter(generation))).id]
        await mortal(**quick)
        await first.kill()
        text += [token.id async for token in generation]
    assert text == decode(PROMPT, 200)
    assert generation.stats.takeovers == 1


async def test_a_redis_that_is_restarted_costs_a_pause(serve: Serve, tmp_path: Path) -> None:
    async with (
        RealServer(tmp_path) as server,
        serve(HASH_TARGET, redis_url=server.url, hash_step_ms=5),
        gateway_at(server.url) as url,
        dsdq.connect(socket_at(url)) as client,
    ):
        generations = [
            client.generate([number], sampling=Sampling(number % 2), seed=7, max_tokens=300, draft="hash:0.8")
            for number in range(3)
        ]
        texts = [[(await anext(aiter(generation))).id] for generation in generations]
        await server.restart()
        for number, (generation, text) in enumerate(zip(generations, texts, strict=True)):
            text += [token.id async for token in generation]
            assert text == decode([number], 300, Sampling(number % 2), 7)
