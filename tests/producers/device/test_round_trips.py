"""How often a device waits for Redis until its first token is there: counted, not timed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

import dsdq
from dsdq.bus.clients import Tcp
from dsdq.models.names import HASH_TARGET
from dsdq.testing.proxy import FaultProxy
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


async def until_first_token(client: dsdq.Client, sent: list[bytes]) -> int:
    """Return how often a device sends something until the first token of a text is there."""
    sent.clear()
    generation = client.generate(PROMPT, draft="hash:0.8", max_tokens=4)
    await anext(aiter(generation))
    count = len(sent)
    await generation.aclose()
    return count


async def test_who_serves_is_known_from_the_start(serve: Serve, far: FaultProxy, sent: list[bytes]) -> None:
    async with serve(HASH_TARGET), dsdq.connect(far.url) as client:
        assert await until_first_token(client, sent) == 2
        assert await until_first_token(client, sent) == 2


async def test_who_serves_is_looked_up_in_one_round_trip(
    serve: Serve, far: FaultProxy, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(HASH_TARGET), dsdq.connect(far.url) as client:
        monkeypatch.setattr(finding, "ALONE_S", 0)
        assert await until_first_token(client, sent) == 3
