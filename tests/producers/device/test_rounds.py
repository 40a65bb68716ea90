"""Several rounds in flight: the same text whatever the depth, the drafter, the link and who dies."""

from __future__ import annotations

import random
from typing import Any

import pytest

import dsdq
import producers.device.client as module
from dsdq.drafting import Drafter
from dsdq.errors import ConfigError
from dsdq.policies.window import Choice, Mode, Observation
from dsdq.testing.proxy import FaultProxy, Faults, Line
from producers.drafters.recorded import RecordedDrafter
from tests.workers.verifier.conftest import PROMPT
from tests.workers.verifier.mortals import OWN, Start

IN_A_THREAD = RecordedDrafter(0.9, ms_per_token=0.5)
DRAFTS = ["none", "ngram", "random", "hash:0.3", "hash:0.9", IN_A_THREAD, RecordedDrafter(1.0)]
NAMES = ["none", "ngram", "random", "0.3", "0.9", "0.9 in its thread", "always right"]
FAR = Faults(up=Line(delay_ms=3, jitter_ms=3), down=Line(delay_ms=3, jitter_ms=3))
LOSSY = Faults(lose_request=0.02, lose_reply=0.02, duplicate=0.05)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("draft", DRAFTS, ids=NAMES)
async def test_the_text_is_the_targets_at_any_depth(
    mortal: Start, redis_url: str, draft: str | Drafter, depth: int
) -> None:
    await mortal()
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=draft, max_tokens=100, window=4, depth=depth)
        shown = [token.id async for token in generation]
    stats = generation.stats
    assert shown == OWN[:100]
    assert generation.finish_reason == "length"
    assert stats.accepted_tokens <= stats.judged_tokens <= stats.drafted_tokens - stats.wasted_tokens
    if depth == 1:
        assert stats.wasted_tokens == 0


@pytest.mark.parametrize("policy", ["optimal", "backoff:4", "static:2:3"])
@pytest.mark.parametrize("draft", ["hash:0.3", IN_A_THREAD, "none"], ids=["0.3", "0.9 in its thread", "none"])
async def test_the_text_is_the_targets_under_every_policy(
    mortal: Start, redis_url: str, draft: str | Drafter, policy: str
) -> None:
    await mortal()
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=draft, max_tokens=200, window=8, depth=4, policy=policy)
        shown = [token.id async for token in generation]
    assert shown == OWN[:200]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"depth": 9}, "max_depth: expected 1 to 8, got 9"),
        ({"policy": "best"}, "window policy: expected one of static"),
        ({"policy": "awc"}, "untrained"),
        ({"policy": "threshold:0.4"}, "a drafter that tells its confidence"),
    ],
    ids=["too deep", "unknown", "untrained", "without confidence"],
)
async def test_what_no_policy_can_do_is_refused(
    mortal: Start, redis_url: str, asked: dict[str, Any], said: str
) -> None:
    await mortal()
    async with dsdq.connect(redis_url, tenant="acme") as client:
        with pytest.raises(ConfigError, match=said):
            await anext(aiter(client.generate(PROMPT, draft="ngram", **asked)))


class Switching:
    """A policy that changes its mind with every verdict."""

    def __init__(self) -> None:
        self._turn = 0
        self.seen: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        self.seen.append(observation)
        self._turn += 1

    def choose(self) -> Choice:
        plans = (
            Choice(4, 3),
            Choice(0, 1, Mode.TARGET_ONLY, 5),
            Choice(1, 4),
            Choice(8),
            Choice(0, 1, Mode.TARGET_ONLY, 1),
        )
        return plans[self._turn // 3 % len(plans)]

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - the protocol's
        return True


@pytest.mark.parametrize("draft", ["hash:0.8", IN_A_THREAD], ids=["at once", "in its thread"])
async def test_modes_that_change_all_the_time_change_nothing_in_the_text(
    mortal: Start, redis_url: str, draft: str | Drafter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mortal()
    policy = Switching()
    monkeypatch.setattr(module, "load_policy", lambda *_: policy)
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=draft, max_tokens=200, window=8, depth=4, policy="switching")
        shown = [token.id async for token in generation]
    assert shown == OWN[:200]
    assert {one.mode for one in policy.seen} == {Mode.SPECULATE, Mode.TARGET_ONLY}
    assert sum(one.committed for one in policy.seen) == 200
    if draft is not IN_A_THREAD:  # whose next window may take longer than the verdict
        assert max(one.in_flight for one in policy.seen) > 0
    assert max(one.part for one in policy.seen) > 0


@pytest.mark.parametrize("faults", [FAR, LOSSY], ids=["far", "lossy"])
@pytest.mark.parametrize("draft", ["hash:0.9", IN_A_THREAD, "none"], ids=["at once", "in its thread", "none"])
async def test_a_slow_or_lossy_link_changes_nothing_in_the_text(
    mortal: Start, redis_url: str, draft: str | Drafter, faults: Faults
) -> None:
    await mortal()
    async with (
        FaultProxy(redis_url, random.Random(7)) as proxy,
        dsdq.connect(proxy.url, tenant="acme") as client,
    ):
        proxy.set_faults(faults)
        generation = client.generate(PROMPT, draft=draft, max_tokens=150, window=4, depth=3)
        shown = [token.id async for token in generation]
    assert shown == OWN[:150]


async def test_a_draft_that_is_never_wrong_wastes_nothing_and_waits_for_no_verdict(
    mortal: Start, redis_url: str
) -> None:
    await mortal()
    async with FaultProxy(redis_url, random.Random(7)) as proxy, dsdq.connect(proxy.url, tenant="acme") as client:
        proxy.set_faults(FAR)
        generation = client.generate(PROMPT, draft=RecordedDrafter(1.0), max_tokens=100, window=4, depth=4)
        kinds = [token.kind async for token in generation]
    stats = generation.stats
    assert stats.wasted_tokens == 0
    assert stats.judged_tokens == stats.accepted_tokens
    # Where the next window was there already, its first token is the guess that the bonus token met.
    assert stats.accepted_tokens < stats.drafted_tokens
    assert set(kinds) == {dsdq.TokenKind.ACCEPTED, dsdq.TokenKind.BONUS}


async def test_a_generation_that_is_closed_while_it_drafts_leaves_nothing_running(
    mortal: Start, redis_url: str
) -> None:
    await mortal(hash_step_ms=5)
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=IN_A_THREAD, max_tokens=300, window=4, depth=3)
        async for _ in generation:
            break
        await generation.aclose()
        again = client.generate(PROMPT, draft=IN_A_THREAD, max_tokens=30, window=4, depth=3)
        assert [token.id async for token in again] == OWN[:30]
