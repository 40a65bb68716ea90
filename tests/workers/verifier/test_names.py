"""A session's name is its tenant's to choose: two of one name are two sessions."""

from __future__ import annotations

from redis.asyncio import Redis

from dsdq.contract import Contract
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.hashed import decode
from dsdq.wire import Cancel, Closed, Opened, Verdict
from tests.conftest import Serve
from tests.workers.verifier.conftest import PROMPT, SETTINGS, Wire, another


async def test_sessions_of_two_tenants_may_have_one_name(serve: Serve, redis: Redis) -> None:
    fingerprint = Tokenizer.load(HASH_TARGET).fingerprint
    contract = Contract("acme", "phone", "s1", HASH_TARGET, fingerprint, max_tokens=20, max_window=8)
    own = decode(PROMPT, 6)
    async with serve(HASH_TARGET, **SETTINGS) as verifier:
        ours = Wire(redis, verifier, contract, HASH_TARGET)
        theirs = another(ours, "s1", tenant="globex")
        assert isinstance(await ours.open(), Opened)
        assert isinstance(await theirs.open(), Opened)
        await theirs.send(Cancel("s1"))
        assert isinstance(await theirs.next(), Closed)
        await ours.send(ours.draft(tuple(own[:3])))
        verdict = await ours.next()
    assert isinstance(verdict, Verdict)
    assert verdict.tokens == tuple(own[:4])
