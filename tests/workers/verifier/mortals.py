"""Verifiers of the hash model that can be killed, and what a test wants to know of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.inbox import GROUP
from dsdq.contract import Contract
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.tasks import end
from dsdq.testing.hashed import decode
from dsdq.wire import Opened, Verdict
from tests.workers.verifier.conftest import PROMPT, Wire
from workers.verifier.service import Verifier

OWN = decode(PROMPT, 300)
LIMIT_S = 30


@dataclass
class Mortal:
    """A verifier that can be killed: it says nothing to anybody, and leaves all as it is."""

    redis: Redis
    verifier: Verifier
    serving: asyncio.Task[None]
    killed: bool = False

    async def kill(self) -> None:
        self.killed = True
        await end(self.serving)
        await lapse(self.redis, self.verifier)


async def lapse(redis: Redis, verifier: Verifier) -> None:
    """Let a verifier's lease lapse, without waiting for it."""
    await redis.zadd(keys.workers(HASH_TARGET), {verifier.info.wid: 1}, xx=True)


Start = Callable[..., Awaitable[Mortal]]


@asynccontextmanager
async def within() -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT_S):
        yield


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with within():
        while not await holds():
            await asyncio.sleep(0.005)


def device_of(redis: Redis, owner: Verifier, session: str = "s1", **changed: Any) -> Wire:
    contract = Contract("acme", "phone", session, HASH_TARGET, Tokenizer.load(HASH_TARGET).fingerprint)
    return Wire(redis, owner, replace(contract, **{"max_tokens": 100, "max_window": 8, **changed}), HASH_TARGET)


def after(device: Wire, count: int) -> dict[str, Any]:
    """Return the place of a round behind ``count`` tokens of the model's own."""
    text = device.text
    text.extend(OWN[:count])
    return {"base": text.length, "digest": text.digest}


async def follow(device: Wire, heir: Verifier, length: int = len(PROMPT)) -> Opened:
    """Wait until ``heir`` says that it has a session, with a text of ``length`` tokens, and turn to it."""
    opened = await device.next()
    assert isinstance(opened, Opened)
    assert (opened.worker, opened.epoch, opened.length) == (heir.info.wid, 2, length)
    assert opened.digest == (await device_digest(device, length))
    device.verifier = heir
    return opened


async def device_digest(device: Wire, length: int) -> bytes:
    text = device.text
    text.extend(OWN[: length - len(PROMPT)])
    return text.digest


async def verdict(device: Wire) -> Verdict:
    message = await device.next()
    assert isinstance(message, Verdict), message
    return message


async def until_forgotten(redis: Redis, worker: str) -> None:
    async def gone() -> bool:
        return not await redis.keys(f"{{w.{worker}}}*") and not await redis.zscore(keys.workers(HASH_TARGET), worker)

    await until(gone)


def hold(monkeypatch: pytest.MonkeyPatch, whose: Any, name: str) -> asyncio.Event:
    """Let every call of a coroutine function wait for the event that is returned."""
    gate, function = asyncio.Event(), getattr(whose, name)

    async def held(*arguments: Any, **named: Any) -> Any:
        await gate.wait()
        return await function(*arguments, **named)

    monkeypatch.setattr(whose, name, held)
    return gate


async def until_delivered(redis: Redis, worker: str, count: int) -> None:
    async def delivered() -> bool:
        return int((await redis.xpending(keys.inbox(worker, "acme"), GROUP))["pending"]) == count

    await until(delivered)
