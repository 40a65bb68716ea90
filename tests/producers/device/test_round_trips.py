"""How often a device waits for Redis until its first token is there: counted, not timed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

import dsdq
from dsdq.bus.clients import Tcp
from dsdq.errors import GoneError
from dsdq.models.names import HASH_TARGET
from dsdq.testing.hashed import decode
from dsdq.testing.proxy import FaultProxy
from dsdq.wire import Open
from producers.device import finding
from tests.conftest import Serve

PROMPT = tuple(range(1, 9))


@pytest.fixture
async def far(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url, random.Random(1)) as proxy:
        yield proxy


@pytest.fixture
def sent(far: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what devices send through the proxy, but for reads that wait for answers: each takes a round trip."""
    written: list[bytes] = []
    send = Tcp.send_packed_command

    async def _send(self: Tcp, command: list[bytes] | bytes, check_health: bool = True) -> None:
        packed = command if isinstance(command, bytes) else b"".join(command)
        if far.url == f"redis://{self.host}:{self.port}/0" and not (b"XREAD" in packed or b"SETINFO" in packed):
            written.append(packed)
        await send(self, command, check_health)

    monkeypatch.setattr(Tcp, "send_packed_command", _send)
    return written


async def until_first_token(
    client: dsdq.Client, sent: list[bytes], draft: str = "hash:0.8", policy: str | None = None
) -> int:
    """Return how often a device sends something until the first token of a text is there."""
    sent.clear()
    generation = client.generate(PROMPT, draft=draft, max_tokens=4, policy=policy)
    await anext(aiter(generation))
    count = len(sent)
    await generation.aclose()
    return count


async def test_the_first_token_takes_one_round_trip(serve: Serve, far: FaultProxy, sent: list[bytes]) -> None:
    async with serve(HASH_TARGET), dsdq.connect(far.url) as client:
        assert [await until_first_token(client, sent) for _ in range(2)] == [1, 1]
        assert await until_first_token(client, sent, "none") == 1
        assert await until_first_token(client, sent, policy="target-only") == 1


async def test_who_serves_is_looked_up_in_one_round_trip(
    serve: Serve, far: FaultProxy, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(HASH_TARGET), dsdq.connect(far.url) as client:
        monkeypatch.setattr(finding, "ALONE_S", 0)
        assert await until_first_token(client, sent) == 2


@pytest.mark.parametrize(("round_trip_ms", "count"), [(0.0, 2), (60_000.0, 1)])
async def test_a_draft_is_waited_for_no_longer_than_the_round_trip_that_it_saves(
    serve: Serve, far: FaultProxy, sent: list[bytes], monkeypatch: pytest.MonkeyPatch, round_trip_ms: float, count: int
) -> None:
    async with serve(HASH_TARGET), dsdq.connect(far.url) as client:
        monkeypatch.setattr(client._directory, "round_trip_ms", round_trip_ms)  # type: ignore[attr-defined]
        assert await until_first_token(client, sent, "hash:0.8:5") == count


async def test_a_generation_that_is_closed_before_its_first_draft_is_made_opens_no_session(
    serve: Serve, far: FaultProxy, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(HASH_TARGET), dsdq.connect(far.url) as client:
        monkeypatch.setattr(client._directory, "round_trip_ms", 60_000.0)  # type: ignore[attr-defined]
        sent.clear()
        generation = client.generate(PROMPT, draft="hash:0.8:50", max_tokens=8)
        waiting = asyncio.create_task(anext(aiter(generation)))
        while generation._link is None:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        await generation.aclose()
        with pytest.raises(GoneError, match="closed"):
            await waiting
        assert sent == []


async def test_a_verifier_that_takes_no_round_with_an_open_is_sent_it_afterwards(
    serve: Serve, far: FaultProxy, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Open, "first_round", lambda *_: None)  # as releases were that did not know of it
    async with serve(HASH_TARGET), dsdq.connect(far.url) as client:
        assert await until_first_token(client, sent) == 2
        generation = client.generate(PROMPT, draft="hash:0.8", max_tokens=20)
        assert [token.id async for token in generation] == decode(PROMPT, 20)
        assert generation.stats.repeats == 0
