"""A log that lost its end with Redis's last writes: the text goes on from there, and nothing is shown twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

import dsdq
from dsdq.bus.sessions import Commit, CommitStatus, SessionStore, place_of
from dsdq.contract import Contract, Rule
from dsdq.drafting import Drafter
from dsdq.errors import SessionError
from dsdq.wire import ErrorCode, Verdict, unpack
from producers.drafters.recorded import RecordedDrafter
from tests.workers.verifier.conftest import PROMPT
from tests.workers.verifier.mortals import (
    OWN,
    Start,
)


async def cut_log(redis: Redis, contract: Contract, shown: int) -> None:
    """Let Redis forget the end of a log, and of its head: the last verdict that was shown, and all behind it."""
    place = place_of(contract)
    written = [(entry_id, fields, unpack(fields[b"m"])) for entry_id, fields in await redis.xrange(place.log)]
    length = len(PROMPT) + shown
    cut = next(n for n, (*_, one) in enumerate(written) if isinstance(one, Verdict) and one.length >= length)
    kept = written[:cut]
    *_, last = (one for *_, one in kept if isinstance(one, Verdict))
    await redis.delete(place.log)
    for entry_id, fields, _ in kept:
        await redis.xadd(place.log, fields, id=entry_id)
    branch = last.branch + (last.accepted < last.drafted)
    head = {"entries": len(kept), "length": last.length, "digest": last.digest, "round": last.last_round}
    await redis.hset(place.head, mapping={**head, "branch": branch})


@asynccontextmanager
async def nobody_writes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Lock]:
    """Give the lock that every commit holds."""
    writing, write = asyncio.Lock(), SessionStore.commit

    async def locked(store: SessionStore, commits: Sequence[Commit]) -> list[CommitStatus]:
        async with writing:
            return await write(store, commits)

    monkeypatch.setattr(SessionStore, "commit", locked)
    yield writing


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("draft", ["none", "hash:0.5", pytest.param(RecordedDrafter(1.0), id="recorded")])
async def test_what_redis_lost_is_said_again_and_nothing_is_shown_twice(
    mortal: Start, redis: Redis, redis_url: str, draft: str | Drafter, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nobody_writes(monkeypatch) as writing, dsdq.connect(redis_url, tenant="acme") as client:
        one = await mortal(hash_step_ms=2)
        generation = client.generate(PROMPT, draft=draft, max_tokens=300, window=4, depth=depth)
        shown = []
        async for token in generation:
            shown.append(token.id)
            if len(shown) in {40, 120}:
                async with writing:
                    (held,) = one.verifier._sessions
                    await cut_log(redis, held.state.contract, len(shown))
    assert shown == OWN
    assert generation.ids == OWN
    assert generation.stats.takeovers == 2


async def test_coins_that_were_tossed_are_not_tossed_again(
    mortal: Start, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nobody_writes(monkeypatch) as writing, dsdq.connect(redis_url, tenant="acme") as client:
        one = await mortal(hash_step_ms=2, trusted_tenants=("acme",))
        generation = client.generate(PROMPT, draft="none", max_tokens=300, rule=Rule.REJECTION, trusted=True)
        shown: list[int] = []

        async def watch() -> None:
            async for token in generation:
                shown.append(token.id)
                if len(shown) == 40:
                    async with writing:
                        (held,) = one.verifier._sessions
                        await cut_log(redis, held.state.contract, len(shown))

        with pytest.raises(SessionError) as error:
            await watch()
    assert error.value.code == ErrorCode.LOG_LOST
    assert shown == OWN[: len(shown)]
