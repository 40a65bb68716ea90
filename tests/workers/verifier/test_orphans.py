"""A session whose owner has lapsed and that no heir finds: the next message to a living verifier saves it."""

from __future__ import annotations

import pytest

from dsdq import keys
from dsdq.bus.sessions import place_of, read_log
from dsdq.wire import Opened, Verdict
from tests.workers.verifier.conftest import Wire

GHOST = "ghost"


async def orphaned(wire: Wire) -> None:
    """Open a session, and let it be a verifier's that is not there."""
    await wire.open()
    wire.verifier._sessions.abandon(place_of(wire.contract))
    head = keys.session_head(wire.contract.producer, wire.contract.tenant, "s1")
    await wire.redis.hset(head, "worker", GHOST)


@pytest.mark.parametrize("known", [False, True])
async def test_an_orphan_is_taken_over_and_answered(wire: Wire, known: bool) -> None:
    await orphaned(wire)
    if known:  # something of it is still to be taken over: its heirs are not done with it
        await wire.redis.zadd(keys.workers(wire.verifier.info.model), {GHOST: 1})
        await wire.redis.sadd(keys.worker_sessions(GHOST), "p/acme/another")
    await wire.send(wire.draft(tuple(wire.own(2))))
    opened, verdict = await wire.next(), await wire.next()
    assert isinstance(opened, Opened)
    assert (opened.epoch, opened.worker) == (2, wire.verifier.info.wid)
    assert isinstance(verdict, Verdict)
    assert list(verdict.tokens) == wire.own(3)


async def test_a_session_of_a_verifier_that_lives_is_left_to_it(wire: Wire) -> None:
    await orphaned(wire)
    await wire.redis.zadd(keys.workers(wire.verifier.info.model), {GHOST: 1e18})
    await wire.send(wire.draft(tuple(wire.own(2))))
    await wire.until_settled()
    assert await read_log(wire.redis, wire.contract, wire.seen) == []
