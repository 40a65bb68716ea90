"""A verifier that drafts itself, spoken to by hand: grants with a window, without one, and heirs in the middle."""

from __future__ import annotations

import asyncio

import msgpack
import pytest
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.registry import Registry, unpack_info
from dsdq.contract import Rule, Sampling
from dsdq.models.names import HASH_TARGET
from dsdq.session import check_verdict
from dsdq.testing.hashed import decode
from dsdq.wire import Closed, Decode, Verdict
from tests.workers.verifier.conftest import PROMPT, Wire
from tests.workers.verifier.mortals import OWN, Start, device_of, within
from workers.engine.colocated import Drafts, Wish


async def stream(device: Wire, grant: Decode) -> list[Verdict]:
    """Send a grant and return its verdicts, checked, until it is used up or the text ends."""
    await device.send(grant)
    text, verdicts = device.text, list[Verdict]()
    while text.length < grant.base + grant.budget:
        message = await device.next()
        if isinstance(message, Closed):
            return verdicts
        if isinstance(message, Verdict):
            check_verdict(text, message)
            verdicts.append(message)
    return verdicts


def grant(device: Wire, budget: int, window: int) -> Decode:
    return Decode(device.contract.session, 0, 1, len(PROMPT), device.text.digest, budget, window)


def tokens(verdicts: list[Verdict]) -> list[int]:
    return [token for verdict in verdicts for token in verdict.tokens]


@pytest.mark.parametrize("window", [1, 3, 8, 64])
@pytest.mark.parametrize("budget", [1, 2, 7, 40])
async def test_a_grant_is_answered_by_verdicts_of_several_tokens_and_never_exceeded(
    mortal: Start, redis: Redis, budget: int, window: int
) -> None:
    device = device_of(redis, (await mortal(colocated_draft="hash:0.8")).verifier)
    await device.open()
    verdicts = await stream(device, grant(device, budget, window))
    assert tokens(verdicts) == OWN[:budget]
    assert all(one.drafted <= min(window, 8) and one.first_round == one.last_round == 1 for one in verdicts)
    assert all(len(one.tokens) == one.accepted + 1 for one in verdicts)
    await device.until_settled()
    if budget == 40:
        assert len(verdicts) < 30
        assert any(one.accepted < one.drafted for one in verdicts)
        await device.send(device.draft(tuple(OWN[40:43]), 2, base=verdicts[-1].length, digest=verdicts[-1].digest))
        answer = await device.next()
        assert isinstance(answer, Verdict)
        assert (answer.branch, answer.accepted, answer.tokens) == (0, 3, tuple(OWN[40:44]))


@pytest.mark.parametrize(
    ("draft", "window", "changed"),
    [
        ("hash:0.8", 0, {}),
        ("", 8, {}),
        ("hash:0.8", 8, {"rule": Rule.REJECTION, "trusted": True}),
    ],
    ids=["a device that does not know of windows", "a verifier without a drafter", "the rejection rule"],
)
async def test_the_target_decodes_alone_for(
    mortal: Start, redis: Redis, draft: str, window: int, changed: dict[str, object]
) -> None:
    serving = await mortal(colocated_draft=draft, trusted_tenants=("acme",))
    assert serving.verifier.info.drafts is bool(draft)
    device = device_of(redis, serving.verifier, **changed)
    await device.open()
    verdicts = await stream(device, grant(device, 12, window))
    assert tokens(verdicts) == OWN[:12]
    assert [(one.drafted, len(one.tokens)) for one in verdicts] == [(0, 1)] * 12


@pytest.mark.parametrize(
    ("changed", "ends"),
    [({"max_tokens": 20}, 20), ({"stop_ids": (OWN[10],)}, OWN.index(OWN[10]) + 1)],
    ids=["max tokens", "stop id"],
)
async def test_a_text_ends_inside_a_draft(mortal: Start, redis: Redis, changed: dict[str, object], ends: int) -> None:
    device = device_of(redis, (await mortal(colocated_draft="hash:1.0")).verifier, **changed)
    await device.open()
    verdicts = await stream(device, grant(device, 60, 8))
    assert tokens(verdicts) == OWN[:ends]
    assert sum(one.accepted for one in verdicts) <= ends


@pytest.mark.parametrize("heirs_draft", ["hash:0.8", ""], ids=["that drafts", "that does not"])
async def test_a_grant_goes_on_with_an_heir(mortal: Start, redis: Redis, heirs_draft: str) -> None:
    first = await mortal(colocated_draft="hash:0.5", hash_step_ms=2)
    device = device_of(redis, first.verifier, max_tokens=300)
    await device.open()
    await device.send(grant(device, 300, 4))
    before = await device.next()
    assert isinstance(before, Verdict)
    await first.kill()
    await mortal(colocated_draft=heirs_draft)
    got, drafted = [*before.tokens], 0
    while not isinstance(message := await device.next(), Closed):
        if isinstance(message, Verdict):
            got += message.tokens
            drafted = message.drafted
    assert got == OWN
    assert (message.drafted > 0, message.accepted > 0) == (True, True)
    assert bool(heirs_draft) or drafted == 0


class Broken:
    """A drafter that fails at its second draft."""

    brief = True

    def __init__(self) -> None:
        self.calls = 0

    def draft(self, wishes: list[Wish]) -> Drafts:
        self.calls += 1
        if self.calls > 1:
            msg = "no more"
            raise RuntimeError(msg)
        return Drafts([tuple(OWN[:2]) for _ in wishes], 2)


async def test_a_drafter_that_fails_costs_no_session_anything(
    mortal: Start, redis: Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Broken()
    monkeypatch.setattr("workers.verifier.assembly.own_drafter", lambda *_: lambda: broken)
    serving = await mortal(colocated_draft="broken")
    device = device_of(redis, serving.verifier)
    await device.open()
    verdicts = await stream(device, grant(device, 20, 2))
    assert tokens(verdicts) == OWN[:20]
    assert [one.drafted for one in verdicts] == [2, *[0] * 17]
    assert broken.calls == 2
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("drafting failed") == 1
    async with within():
        while (await Registry(redis).list_workers(HASH_TARGET))[0].drafts:
            await asyncio.sleep(0.005)


async def test_a_worker_of_a_release_that_knows_nothing_of_it_does_not_draft(mortal: Start, redis: Redis) -> None:
    serving = await mortal(colocated_draft="ngram")
    packed = await redis.hget(keys.worker_infos(HASH_TARGET), serving.verifier.info.wid)
    entry = msgpack.unpackb(packed)
    assert entry.pop("drafts") is True
    assert unpack_info(msgpack.packb(entry)).drafts is False


async def test_sessions_draft_beside_others_that_draft_themselves_or_not_at_all(mortal: Start, redis_url: str) -> None:
    await mortal(colocated_draft="hash:0.7", kv_tokens=2048, kv_grace_ms=0, kv_patience_ms=0)
    ways = ("co-located", "co-located:2", "static", "target-only", "optimal")

    async def generate(client: dsdq.Client, number: int) -> None:
        prompt = [(31 * number + place) % 2000 for place in range(20 + 17 * number)]
        chosen = Sampling(temperature=number % 2)
        policy = ways[number % len(ways)]
        generation = client.generate(
            prompt, draft="hash:0.6", policy=policy, sampling=chosen, max_tokens=60, window=6, seed=number
        )
        ids = [token.id async for token in generation]
        assert ids == decode(prompt, 60, chosen, number), policy

    async with dsdq.connect(redis_url, tenant="acme") as client:
        await asyncio.gather(*(generate(client, number) for number in range(20)))
