"""One tenant floods its inbox past the bound: it is cut back, and another tenant's session goes on beside it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.dead import DeadLetters
from dsdq.contract import Contract
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.hashed import decode
from dsdq.testing.servers import until
from dsdq.wire import Open, pack, pack_contract
from producers.device import link
from tests.conftest import Serve
from workers.verifier.service import READ_ENTRIES, Verifier

PROMPT = (5, 9, 12, 7)
BOUND = 64
TENANTS = {"tenants": ("acme", "globex"), "allow_unsafe_redis": True}


async def flood(redis: Redis, verifier: Verifier, payloads: list[bytes]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for payload in payloads:
        pipeline.xadd(keys.inbox(verifier.info.wid, "acme"), {"m": payload, "p": "phone"})
    await pipeline.execute()


async def test_another_tenants_session_goes_on_while_a_flood_still_waits(
    redis: Redis, redis_url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LEAST_TIMEOUT_MS", 60_000)  # how fast this machine is must not decide
    entries = 100 * READ_ENTRIES
    async with (
        serve(HASH_TARGET, **TENANTS, inbox_bound=entries) as verifier,
        dsdq.connect(redis_url, tenant="globex") as client,
    ):
        await flood(redis, verifier, [b"garbage"] * entries)
        generation = client.generate(PROMPT, draft="hash:1.0", window=8, max_tokens=18, ignore_eos=True)
        tokens = [token.id async for token in generation]
        assert tokens == decode(PROMPT, 18)
        assert (generation.stats.rounds, generation.stats.repeats) == (2, 0)
        assert await redis.xlen(keys.inbox(verifier.info.wid, "acme")) > 0


async def test_a_flood_of_opens_takes_no_more_than_twice_the_bound(redis: Redis, serve: Serve) -> None:
    fingerprint = Tokenizer.load(HASH_TARGET).fingerprint
    contracts = [Contract("acme", "phone", f"s{number}", HASH_TARGET, fingerprint) for number in range(20 * BOUND)]
    async with serve(HASH_TARGET, **TENANTS, inbox_bound=BOUND, session_rounds=1, slots=1) as verifier:
        await flood(redis, verifier, [pack(Open(one.session, pack_contract(one), PROMPT)) for one in contracts])
        dead = DeadLetters(redis)

        async def cut() -> bool:
            left: int = await redis.xlen(keys.inbox(verifier.info.wid, "acme"))
            return left + 1 + (await dead.counts()).get("flood", 0) == len(contracts) and left <= 2 * BOUND

        await until(cut, "an inbox of no more than twice its bound")
        assert (await dead.counts())["flood"] >= len(contracts) - 2 * BOUND - 1
