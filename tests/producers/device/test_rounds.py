"""Several rounds in flight: the same text whatever the depth, the drafter, the link and who dies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import pytest

import dsdq
import producers.device.choosing as module
from dsdq.contract import Contract
from dsdq.drafting import TO_THE_END, Drafter, DraftSession, GoOn, Proposal
from dsdq.errors import ConfigError
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.window import Choice, Mode, Observation, WindowPolicy
from dsdq.policies.window.protocol import GUESS_EVERY_TOKENS, GUESSED_TOKENS
from dsdq.testing.proxy import FaultProxy, Faults, Line
from producers.drafters.recorded import RecordedDrafter, RecordedSession
from tests.workers.verifier.conftest import PROMPT
from tests.workers.verifier.mortals import LIMIT_S, OWN, Start

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
        assert (stats.wasted_tokens, stats.rounds_ahead) == (0, 0)


async def test_where_one_drafter_is_of_no_use_the_next_drafts(mortal: Start, redis_url: str) -> None:
    await mortal()
    async with dsdq.connect(redis_url, tenant="acme") as client:
        drafts = ["hash:0.0", "ngram", RecordedDrafter(1.0)]
        generation = client.generate(PROMPT, draft=drafts, max_tokens=200, window=4, depth=2, policy="backoff:2")
        kinds = [token.kind async for token in generation]
    assert generation.ids == OWN[:200]
    assert kinds[100:].count(dsdq.TokenKind.ACCEPTED) > 60


@pytest.mark.parametrize(
    "policy", ["optimal", "backoff:4", "static:2:3", "threshold:0.4:2", "target-only", "co-located", "co-located:3"]
)
@pytest.mark.parametrize("draft", ["hash:0.3", IN_A_THREAD, "none"], ids=["0.3", "0.9 in its thread", "none"])
async def test_the_text_is_the_targets_under_every_policy(
    mortal: Start, redis_url: str, draft: str | Drafter, policy: str
) -> None:
    await mortal(colocated_draft="hash:0.7")
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=draft, max_tokens=200, window=8, depth=4, policy=policy)
        shown = [token.id async for token in generation]
    assert shown == OWN[:200]


class Doubting:
    """A drafter of the hash model in a thread, right in 70 %, that knows where it is: a confidence of 0.9 or 0.2."""

    fingerprint, brief = "", False

    def start(self, contract: Contract, tokenizer: Tokenizer) -> DraftSession:
        right, own = (RecordedDrafter(share).start(contract, tokenizer) for share in (0.7, 1.0))

        class Session:
            def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
                drafted, known = right.propose(text, window).tokens, own.propose(text, window).tokens
                tokens: list[int] = []
                confidences: list[float] = []
                for token, target in zip(drafted, known, strict=True):
                    tokens.append(token)
                    confidences.append(0.9 if token == target else 0.2)
                    if not go_on(tokens, confidences[-1] if go_on.uses_confidence else None):
                        break
                return Proposal(tuple(tokens), confidences=tuple(confidences) if go_on.uses_confidence else ())

        return Session()


@pytest.mark.parametrize("depth", [1, 3])
async def test_a_threshold_ends_drafts_where_the_drafter_doubts_and_changes_nothing_in_the_text(
    mortal: Start, redis_url: str, depth: int
) -> None:
    await mortal()
    async with dsdq.connect(redis_url, tenant="acme") as client:
        terms: dict[str, Any] = {"draft": Doubting(), "max_tokens": 200, "window": 16, "depth": depth}
        careful = client.generate(PROMPT, policy="threshold:0.5", **terms)
        assert [token.id async for token in careful] == OWN[:200]
        whole = client.generate(PROMPT, policy="threshold:0", **terms)
        assert [token.id async for token in whole] == OWN[:200]
    if depth == 1:  # else the windows behind one whose last token is wrong are judged with it
        assert careful.stats.judged_tokens - careful.stats.accepted_tokens <= careful.stats.rounds
        assert careful.stats.drafted_tokens < whole.stats.drafted_tokens / 2


class Recording:
    """Chooses what it is told, stops below a confidence of 0.5, and keeps what it sees."""

    def __init__(self, choice: Choice, *, uses_confidence: bool = False, uses_guesses: bool = False) -> None:
        self.uses_confidence, self.uses_guesses = uses_confidence, uses_guesses
        self._choice = choice
        self.seen: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        self.seen.append(observation)

    def choose(self) -> Choice:
        return self._choice

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - the protocol's
        return confidence >= 0.5


async def generated(url: str, policy: WindowPolicy, draft: Drafter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what 100 tokens come to under a policy that has no name."""
    monkeypatch.setattr(module, "load_policy", lambda *_: policy)
    async with dsdq.connect(url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=draft, max_tokens=100, window=8, depth=4, policy="recording")
        return [token.id async for token in generation]


@pytest.mark.parametrize("depth", [1, 3])
async def test_a_policy_sees_the_confidence_of_every_token_that_was_judged(
    mortal: Start, redis_url: str, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mortal()
    policy = Recording(Choice(8, depth), uses_confidence=True)
    assert await generated(redis_url, policy, Doubting(), monkeypatch) == OWN[:100]
    for one in policy.seen:
        assert len(one.confidences) == one.drafted
        assert one.confidences[: one.accepted + 1] == (0.9,) * one.accepted + (0.2,) * (one.accepted < one.drafted)


@pytest.mark.parametrize("share", [0.6, 1.0])
async def test_a_drafter_guesses_along_with_a_stream_and_what_it_guessed_right_is_counted(
    mortal: Start, redis_url: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mortal()
    drafter, guesses = RecordedDrafter(share), list[tuple[int, ...]]()
    policy = Recording(Choice(0, 1, Mode.TARGET_ONLY, 20), uses_guesses=True)
    propose = RecordedSession.propose

    def keep(session: RecordedSession, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        proposal = propose(session, text, window, go_on)
        guesses.append(proposal.tokens)
        return proposal

    monkeypatch.setattr(RecordedSession, "propose", keep)
    assert await generated(redis_url, policy, drafter, monkeypatch) == OWN[:100]
    judged = right = 0
    for place, guess in zip(range(0, 100, GUESS_EVERY_TOKENS), guesses, strict=True):
        stands = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(guess, OWN[place:], strict=False)))
        judged, right = judged + min(stands + 1, GUESSED_TOKENS), right + stands
    assert {one.mode for one in policy.seen} == {Mode.TARGET_ONLY}
    assert sum(one.guessed for one in policy.seen) == judged
    assert sum(one.guessed_right for one in policy.seen) == right
    assert (right == judged) is (share == 1.0)


@pytest.mark.parametrize(("budget", "grants"), [(20, 9), (64, 3), (500, 1)])
async def test_a_stream_is_granted_on_at_half_of_a_grant_and_no_further_than_its_end(
    mortal: Start, redis_url: str, budget: int, grants: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mortal()
    monkeypatch.setattr(module, "load_policy", lambda *_: Recording(Choice(0, 1, Mode.TARGET_ONLY, budget)))
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft="ngram", max_tokens=100, policy="recording")
        assert [token.id async for token in generation] == OWN[:100]
    assert generation.stats.rounds == grants


@pytest.mark.parametrize("other", [Choice(6, 1, Mode.COLOCATED, 100), Choice(0, 1, Mode.TARGET_ONLY, 100)])
async def test_a_stream_that_is_to_go_otherwise_does_so_at_once_and_not_when_its_grant_is_used_up(
    mortal: Start, redis_url: str, other: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Turning(Recording):
        def choose(self) -> Choice:
            return other if len(self.seen) >= 2 else Choice(2, 1, Mode.COLOCATED, 100)

    await mortal(colocated_draft="hash:1.0", hash_step_ms=10)
    policy = Turning(other)
    assert await generated(redis_url, policy, RecordedDrafter(1.0), monkeypatch) == OWN[:100]
    turned = [one.mode is other.mode and one.wanted == other.window for one in policy.seen[:-3]]  # before the end
    assert turned.index(True) <= 10  # of 34
    assert all(turned[turned.index(True) :])


async def test_a_drafter_in_a_thread_guesses_along_as_often_as_it_can(
    mortal: Start, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mortal(hash_step_ms=2)
    policy = Recording(Choice(0, 1, Mode.TARGET_ONLY, 20), uses_guesses=True)
    assert await generated(redis_url, policy, RecordedDrafter(1.0, ms_per_token=0.5), monkeypatch) == OWN[:100]
    guessed = [one for one in policy.seen if one.guessed]
    assert guessed
    assert all(one.guessed == one.guessed_right == GUESSED_TOKENS and one.guess_ms > 0 for one in guessed)


async def test_nobody_guesses_for_a_policy_that_makes_nothing_of_it(
    mortal: Start, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mortal()
    monkeypatch.setattr(RecordedSession, "propose", None)
    policy = Recording(Choice(0, 1, Mode.TARGET_ONLY, 20))
    assert await generated(redis_url, policy, RecordedDrafter(1.0), monkeypatch) == OWN[:100]
    assert not any(one.guessed for one in policy.seen)


async def test_behind_a_window_that_stood_the_next_ones_first_token_was_a_guess(
    mortal: Start, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mortal()
    policy = Recording(Choice(4, 3))
    assert await generated(redis_url, policy, RecordedDrafter(0.8), monkeypatch) == OWN[:100]
    guessed = [one for one in policy.seen if one.guessed]
    assert any(one.guessed_right for one in guessed)
    assert all(one.accepted == one.drafted for one in guessed)


class Endless:
    """A drafter in a thread. Behind what is in flight it drafts, wrongly, until it is told to stop."""

    fingerprint, brief = "", False

    def __init__(self) -> None:
        self.stopped = 0

    def start(self, contract: Contract, tokenizer: Tokenizer) -> DraftSession:
        drafter, one = self, RecordedDrafter(0.0).start(contract, tokenizer)

        class Session:
            def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
                committed = [*PROMPT, *OWN][: len(text)] == list(text)
                proposal = one.propose(text, window if committed else 1)
                while not committed and go_on(proposal.tokens, None):
                    time.sleep(0.001)
                drafter.stopped += not committed
                return proposal

        return Session()


async def test_a_draft_that_is_refuted_while_it_is_made_is_stopped(mortal: Start, redis_url: str) -> None:
    await mortal()
    drafter = Endless()
    async with dsdq.connect(redis_url, tenant="acme") as client, asyncio.timeout(LIMIT_S):
        generation = client.generate(PROMPT, draft=drafter, max_tokens=20, window=4, depth=2)
        assert [token.id async for token in generation] == OWN[:20]
    assert drafter.stopped > 0
    assert generation.stats.wasted_tokens == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"depth": 9}, "max_depth: expected 1 to 8, got 9"),
        ({"policy": "best"}, "window policy: expected one of static"),
        ({"policy": "co-located"}, r"on offer here \(speculate, target-only\); a verifier drafts itself"),
    ],
    ids=["too deep", "unknown", "with a verifier that does not draft"],
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

    uses_confidence, uses_guesses = False, True

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
            Choice(3, 1, Mode.COLOCATED, 9),
            Choice(8, 1, Mode.COLOCATED, 4),
        )
        return plans[self._turn // 3 % len(plans)]

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - the protocol's
        return True


@pytest.mark.parametrize("draft", ["hash:0.8", IN_A_THREAD], ids=["at once", "in its thread"])
async def test_modes_that_change_all_the_time_change_nothing_in_the_text(
    mortal: Start, redis_url: str, draft: str | Drafter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mortal(colocated_draft="hash:0.7")
    policy = Switching()
    monkeypatch.setattr(module, "load_policy", lambda *_: policy)
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft=draft, max_tokens=200, window=8, depth=4, policy="switching")
        shown = [token.id async for token in generation]
    assert shown == OWN[:200]
    assert {one.mode for one in policy.seen} == set(Mode)
    assert 0 < generation.stats.rounds_ahead < generation.stats.rounds or draft is IN_A_THREAD
    assert all(one.drafted <= one.wanted <= 8 for one in policy.seen if one.mode is Mode.COLOCATED)
    assert any(one.accepted for one in policy.seen if one.mode is Mode.COLOCATED)
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


async def test_a_device_that_is_asked_for_no_drafts_grants_until_it_is_asked_again(
    mortal: Start, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = await mortal()
    wanted = iter([4, 0, *[0] * 20])
    monkeypatch.setattr("dsdq.policies.steering.Steering.next_window", lambda *_: next(wanted, 4))
    async with dsdq.connect(redis_url, tenant="acme") as client:
        generation = client.generate(PROMPT, draft="hash:1.0", max_tokens=100, window=4)
        kinds = [token.kind async for token in generation]
    assert generation.ids == OWN[:100]
    granted = [place for place, kind in enumerate(kinds) if kind is dsdq.TokenKind.TARGET]
    assert granted == list(range(granted[0], granted[-1] + 1))
    assert 20 <= len(granted) < 20 + 16
    assert serving.verifier._stepper.steps < 100
