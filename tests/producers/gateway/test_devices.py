"""A device that reaches no Redis: its texts over a gateway's WebSocket are those over Redis, whatever happens."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq.bus.embedded import free_port
from dsdq.bus.tenants import TenantStore
from dsdq.contract import Sampling
from dsdq.errors import BusError, DeniedError
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.processes import Child, spawn
from dsdq.tenants import fresh_key
from dsdq.testing.hashed import decode
from dsdq.testing.servers import RealServer
from dsdq.wire.frames import Close
from tests.conftest import Serve
from tests.producers.gateway.conftest import OpenGateway, gateway_at, socket_at
from tests.producers.gateway.raw import Cutter, guest
from tests.workers.verifier.conftest import mortal

__all__ = ["mortal"]

PROMPT, TOKENS = [1, 2, 3], 60
WAYS = [(0.0, 1), (0.0, 3), (1.0, 3)]


async def is_right(client: dsdq.Client, prompt: list[int], tokens: int, *, temperature: float, **asked: Any) -> bool:
    """Ask for a text and say whether it is the target's own, each token once, to its end."""
    chosen = Sampling(temperature)
    generation = client.generate(prompt, sampling=chosen, seed=7, max_tokens=tokens, **({"draft": "hash:0.8"} | asked))
    ids = [token.id async for token in generation]
    return (ids, generation.finish_reason) == (decode(prompt, tokens, chosen, 7), "length")


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
            assert await is_right(client, PROMPT, TOKENS, temperature=temperature, depth=depth, draft=draft)


async def test_many_sessions_of_one_device_and_many_devices(serve: Serve, open_gateway: OpenGateway) -> None:
    async with serve(HASH_TARGET), open_gateway() as url, asyncio.TaskGroup() as running:
        clients = [dsdq.connect(socket_at(url)) for _ in range(8)]
        for client in clients:
            await client.__aenter__()
        texts = [
            running.create_task(is_right(client, [number, at], 30, temperature=number % 2))
            for number in range(6)
            for at, client in enumerate(clients)
        ]
        assert all(await asyncio.gather(*texts))
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
        assert await is_right(client, PROMPT, 10, temperature=0)


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
            is_right(client, [number, number + 1], 150, temperature=number % 2, depth=1 + number % 3)
            for number in range(6)
        ]
        assert all(await asyncio.gather(*texts))
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
        guest(place) as raw,
    ):
        generations = [
            client.generate([number], sampling=Sampling(number % 2), seed=7, max_tokens=tokens, draft="hash:0.8")
            for number in range(4)
        ]
        texts = [[(await anext(aiter(generation))).id] for generation in generations]
        first.send_signal(end)
        if end is signal.SIGTERM:
            assert await raw.end() == Close.RESTART
        assert (await first.wait() == 0) == (end is signal.SIGTERM)
        async with process(redis_url, port):
            for number, (generation, text) in enumerate(zip(generations, texts, strict=True)):
                text += [token.id async for token in generation]
                assert text == decode([number], tokens, Sampling(number % 2), 7)
            assert await is_right(idle, PROMPT, 10, temperature=0)


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


async def test_a_device_whose_key_is_revoked_is_told_and_its_text_ends(
    acme: str, redis: Redis, serve: Serve, open_gateway: OpenGateway
) -> None:
    async with (
        serve(HASH_TARGET, hash_step_ms=20, tenants=("acme",)),
        open_gateway() as url,
        dsdq.connect(socket_at(url), key=acme) as client,
    ):
        generation = client.generate(PROMPT, draft="none", max_tokens=2000)
        await anext(aiter(generation))
        _, fresh = fresh_key("acme")
        await TenantStore(redis).change("acme", lambda found: found.model_copy(update={"keys": (fresh,)}))
        with pytest.raises(BusError):
            await exhaust(generation)
        with pytest.raises(DeniedError, match="Incorrect API key"):
            await exhaust(client.generate(PROMPT, draft="none", max_tokens=10))


async def exhaust(generation: dsdq.Generation) -> None:
    async for _ in generation:
        pass


async def test_the_command_line_takes_a_gateway(acme: str, serve: Serve, open_gateway: OpenGateway) -> None:
    async with serve(HASH_TARGET, tenants=("acme",)), open_gateway() as url:
        arguments = ("--redis", socket_at(url), "--draft", "ngram", "--max-tokens", "12", "--json", "def main():")
        command = ["env", f"DSDQ_API_KEY={acme}", sys.executable, "-m", "dsdq", "generate", *arguments]
        device = await spawn(command, stdout=True)
        try:
            printed = await device.read_line()
        finally:
            await device.stop()
    assert json.loads(printed)["ids"] == decode(Tokenizer.load(HASH_TARGET).encode("def main():"), 12)


def test_a_device_without_the_extra_is_told_which_one_it_needs() -> None:
    probe = "import sys; sys.modules['websockets'] = None; import dsdq; dsdq.connect('ws://127.0.0.1:1')"
    ended = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "install dsdq[websocket]" in ended.stderr
