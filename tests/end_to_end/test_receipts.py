"""Receipts from end to end: kept by clients, equal to the ledger, refused where they say too much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretBytes
from redis.asyncio import Redis
from typer.testing import CliRunner

import dsdq
from dsdq.bus.sessions import read_log
from dsdq.bus.usage import usage_of
from dsdq.commands.receipts import receipts
from dsdq.contract import FinishReason
from dsdq.errors import SessionError
from dsdq.models.names import HASH_TARGET
from dsdq.policies.paging import BLOCK
from dsdq.receipts import Receipt, Signer, is_signed, total_of
from dsdq.session import Counts
from dsdq.settings import settings
from dsdq.tenants.usage import Usage, total
from dsdq.wire import Closed, unpack
from tests.conftest import Serve
from workers.verifier import service

KEY = bytes(range(32))
PROMPT = [1, 2, 3, 4, 5]
WAYS = (
    {"draft": "hash:0.8"},
    {"draft": "hash:0.5", "window": 4, "depth": 3},
    {"draft": "none"},
    {"draft": "hash:0.9", "policy": "target-only"},
    {"draft": "hash:0.8", "policy": "co-located:4"},
)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the file in which this process keeps its receipts, which must be signed."""
    monkeypatch.setenv("DSDQ_RECEIPTS", str(tmp_path / "receipts.jsonl"))
    monkeypatch.setenv("DSDQ_RECEIPT_KEY", Signer(KEY).public_key.hex())
    settings.cache_clear()
    yield tmp_path / "receipts.jsonl"
    settings.cache_clear()


async def ledger(redis: Redis) -> Usage:
    now = datetime.now(UTC)
    return total((await usage_of(redis, "default", now - timedelta(hours=2), now + timedelta(hours=1))).values())


async def test_what_clients_can_prove_is_what_the_ledger_has(
    serve: Serve, redis: Redis, redis_url: str, kept: Path
) -> None:
    async with (
        serve(HASH_TARGET, service_key=SecretBytes(KEY), colocated_draft="hash:0.8") as _,
        dsdq.connect(redis_url) as client,
    ):
        for way in WAYS:
            generation = client.generate(PROMPT, max_tokens=40, **way)  # type: ignore[arg-type]
            async for _token in generation:
                pass
            assert generation.receipt is not None
    found = [Receipt.read(line) for line in kept.read_text().splitlines()]
    assert len(found) == len(WAYS)
    assert [one.problems(Signer(KEY).public_key) for one in found] == [[]] * len(WAYS)
    charged = await ledger(redis)
    assert {name: getattr(charged, name) for name in total_of(found)} == total_of(found)
    assert charged.kv_token_ms > 0
    verified = await asyncio.to_thread(CliRunner().invoke, receipts, ["verify", str(kept)])
    assert verified.exit_code == 0, verified.output
    kept.write_text(kept.read_text().replace('"verified":', '"verified":1', 1))
    doubted = await asyncio.to_thread(CliRunner().invoke, receipts, ["verify", str(kept)])
    assert doubted.exit_code == 1
    assert "line 1: expected" in doubted.output


async def test_a_service_that_signs_with_another_key_is_not_believed(serve: Serve, redis_url: str, kept: Path) -> None:
    async with serve(HASH_TARGET, service_key=SecretBytes(bytes(32))), dsdq.connect(redis_url) as client:
        with pytest.raises(SessionError, match="signature of the service's key"):
            [token async for token in client.generate(PROMPT, draft="hash:0.8", max_tokens=10)]
    assert not kept.exists()


async def test_a_receipt_that_counts_too_much_is_not_taken(
    serve: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Counts.receipt

    def greedy(self: Counts, *told: object) -> Closed:
        return honest(Counts(self.rounds, self.drafted, self.accepted, self.verified + 1, self.prefill), *told)  # type: ignore[arg-type]

    async with serve(HASH_TARGET), dsdq.connect(redis_url) as client:
        generation = client.generate(PROMPT, draft="hash:0.8", max_tokens=10)
        monkeypatch.setattr(Counts, "receipt", greedy)
        with pytest.raises(SessionError, match="verified by the verdicts, the receipt has") as refused:
            [token async for token in generation]
    assert refused.value.code == "receipt_invalid"


async def test_a_prompt_that_is_cached_is_fed_and_charged_for_once(serve: Serve, redis: Redis, redis_url: str) -> None:
    prompt = list(range(1, 101))
    async with serve(HASH_TARGET), dsdq.connect(redis_url) as client:
        seen = []
        for _ in range(2):
            generation = client.generate(prompt, draft="hash:0.8", max_tokens=10)
            async for _token in generation:
                pass
            assert generation.receipt is not None
            seen.append(generation.receipt.closed.prefill)
    assert seen[0] == 99
    assert seen[1] < BLOCK  # all whole blocks of the prompt were there
    assert (await ledger(redis)).prefill == sum(seen)


async def test_a_session_that_nobody_goes_on_with_ends_with_a_signed_receipt(
    serve: Serve, redis: Redis, redis_url: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SWEEP_S", 0.05)
    async with (
        serve(HASH_TARGET, service_key=SecretBytes(KEY), idle_ttl_ms=1000) as verifier,
        dsdq.connect(redis_url) as client,
    ):
        tokens = aiter(client.generate(PROMPT, draft="hash:0.8", max_tokens=100, window=2))
        await anext(tokens)
        (held,) = verifier._sessions
        async with asyncio.timeout(30):
            while len(verifier._sessions):
                await asyncio.sleep(0.02)
            await verifier._sessions.commits.shorter_than(1)
        last = unpack((await read_log(redis, held.state.contract, 0))[-1])
        assert isinstance(last, Closed)
        assert last.reason is FinishReason.EXPIRED
        assert is_signed(last, Signer(KEY).public_key)
        with pytest.raises(SessionError, match="open a new session") as ended:
            [token async for token in tokens]
        assert ended.value.code == "expired"
    (receipt,) = [Receipt.read(line) for line in kept.read_text().splitlines()]
    assert receipt.closed == last
    assert receipt.problems(Signer(KEY).public_key) == []
