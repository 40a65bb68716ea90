"""One device's session with a verifier, spoken by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.publishing import publish
from dsdq.bus.sessions import read_log
from dsdq.contract import Contract
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.session import Transcript
from dsdq.settings import Settings
from dsdq.testing.reference import load_reference
from dsdq.wire import Draft, Message, Open, Opened, pack, pack_contract, unpack
from tests.conftest import Serve
from workers.verifier.assembly import assemble
from workers.verifier.service import Verifier

PROMPT = (5, 9, 12, 7)
SETTINGS: dict[str, Any] = {"tenants": ("acme", "globex"), "slots": 2, "allow_unsafe_redis": True}


@dataclass
class Wire:
    """One device's session, by hand."""

    redis: Redis
    verifier: Verifier
    contract: Contract
    target: str
    seen: int = 0

    @property
    def text(self) -> Transcript:
        return Transcript(pack_contract(self.contract), PROMPT)

    @property
    def opening(self) -> Open:
        return Open(self.contract.session, pack_contract(self.contract), PROMPT)

    async def send(self, message: Message | bytes, tenant: str = "") -> None:
        payload = message if isinstance(message, bytes) else pack(message)
        wid, whose = self.verifier.info.wid, tenant or self.contract.tenant
        await publish(self.redis, wid, whose, payload, producer=self.contract.producer)

    async def next(self) -> Message:
        """Wait for the next entry of the session's log."""
        async with asyncio.timeout(30):
            while not (news := await read_log(self.redis, self.contract, self.seen)):
                await asyncio.sleep(0.005)
        self.seen += 1
        return unpack(news[0])

    async def open(self) -> Opened:
        await self.send(self.opening)
        opened = await self.next()
        assert isinstance(opened, Opened)
        return opened

    def own(self, count: int) -> list[int]:
        """Return what the target says after the prompt."""
        reference = load_reference(self.target)
        return reference.decode(PROMPT, count, self.contract.sampling, self.contract.seed)

    def draft(self, tokens: tuple[int, ...], round_: int = 1, **changed: Any) -> Draft:
        fields = {"branch": 0, "base": len(PROMPT), "digest": self.text.digest, "law": None}
        return Draft(session=self.contract.session, round=round_, tokens=tokens, **{**fields, **changed})

    async def letters(self, count: int) -> list[dict[bytes, bytes]]:
        async with asyncio.timeout(30):
            while await self.redis.xlen(keys.DEAD_LETTERS) < count:
                await asyncio.sleep(0.005)
        return [fields for _, fields in await self.redis.xrange(keys.DEAD_LETTERS)]

    async def until_settled(self) -> None:
        async with asyncio.timeout(30):
            while await self.redis.xlen(keys.inbox(self.verifier.info.wid, self.contract.tenant)):
                await asyncio.sleep(0.005)


@pytest.fixture
async def wire(serve: Serve, redis: Redis, tiny: Callable[[str], Path]) -> AsyncIterator[Wire]:
    target = str(tiny("llama"))
    fingerprint = Tokenizer.load(target).fingerprint
    contract = Contract("acme", "phone", "s1", target, fingerprint, max_tokens=20, max_window=8, ignore_eos=True)
    async with serve(target, **SETTINGS) as verifier:
        yield Wire(redis, verifier, contract, target)


def another(wire: Wire, session: str, **changed: Any) -> Wire:
    return replace(wire, contract=replace(wire.contract, session=session, **changed), seen=0)


@pytest.fixture
async def mortal(redis: Redis, redis_url: str, long_lease: int) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Return a function that starts a verifier of the hash model; those that end unasked fail the test."""
    from tests.workers.verifier.mortals import Mortal  # it needs what is defined here

    started: list[Mortal] = []
    blocks: list[Any] = []

    async def start(**changed: Any) -> Mortal:
        chosen = Settings(redis_url=redis_url, **{"tenants": ("acme",), "lease_ms": long_lease, **changed})
        blocks.append(assemble(redis_url, HASH_TARGET, "cpu", "float32", chosen))
        verifier, ready = (await blocks[-1].__aenter__())(), asyncio.Event()
        started.append(Mortal(redis, verifier, asyncio.create_task(verifier.run(asyncio.Event(), ready))))
        await ready.wait()
        return started[-1]

    yield start
    for one in started:
        if one.serving.done() and not one.killed:
            one.serving.result()
        await one.kill()
    for block in blocks:
        await block.__aexit__(None, None, None)
