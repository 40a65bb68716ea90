"""A session's name is its tenant's to choose: two tenants' of one name are two sessions, two producers' are not."""

from __future__ import annotations

from dataclasses import replace

from redis.asyncio import Redis

from dsdq.contract import Contract
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.hashed import decode
from dsdq.wire import Cancel, Closed, Error, ErrorCode, Opened, Verdict
from tests.conftest import Serve
from tests.workers.verifier.conftest import PROMPT, SETTINGS, Wire, another
from tests.workers.verifier.mortals import Start, until_delivered
from workers.verifier.service import Verifier


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


async def test_an_open_by_a_name_that_another_producer_has_open_is_refused_and_harms_nobody(
    serve: Serve, redis: Redis
) -> None:
    async with serve(HASH_TARGET, **SETTINGS) as verifier:
        ours, theirs = siblings(redis, verifier)
        await ours.open()
        await theirs.send(theirs.opening)
        assert await refused(theirs) == ErrorCode.NAME_TAKEN
        await ours.send(ours.draft(tuple(decode(PROMPT, 3))))
        assert isinstance(await ours.next(), Verdict)


async def test_an_open_by_a_name_that_another_producer_waits_with_is_refused_and_the_other_waits_on(
    serve: Serve, redis: Redis
) -> None:
    async with serve(HASH_TARGET, **{**SETTINGS, "slots": 1}) as verifier:
        ours, theirs = siblings(redis, verifier)
        first = another(ours, "s0")
        await first.open()
        await ours.send(ours.opening)
        await theirs.send(theirs.opening)
        assert await refused(theirs) == ErrorCode.NAME_TAKEN
        await first.send(Cancel("s0"))
        assert isinstance(await ours.next(), Opened)


async def test_an_open_that_waits_is_refused_when_another_producers_session_of_its_name_is_taken_over(
    mortal: Start, redis: Redis
) -> None:
    former = await mortal()
    ours, theirs = siblings(redis, former.verifier)
    await ours.open()
    heir = (await mortal(slots=2)).verifier
    full = [another(replace(ours, verifier=heir), session) for session in ("s2", "s3")]
    for device in full:
        await device.open()
    await full[0].until_settled()
    theirs.verifier = heir
    await theirs.send(theirs.opening)
    await until_delivered(redis, heir.info.wid, 1)
    await former.kill()
    assert isinstance(await ours.next(), Opened)
    for device in full:
        await device.send(Cancel(device.contract.session))
    assert await refused(theirs) == ErrorCode.NAME_TAKEN


def siblings(redis: Redis, verifier: Verifier) -> tuple[Wire, Wire]:
    """Return two producers of one tenant that choose the same name for a session."""
    fingerprint = Tokenizer.load(HASH_TARGET).fingerprint
    contract = Contract("acme", "phone", "s1", HASH_TARGET, fingerprint, max_tokens=20, max_window=8)
    ours = Wire(redis, verifier, contract, HASH_TARGET)
    return ours, another(ours, "s1", producer="tablet")


async def refused(device: Wire) -> str:
    error = await device.next()
    assert isinstance(error, Error), error
    return error.code
