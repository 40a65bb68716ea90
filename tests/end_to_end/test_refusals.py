"""What does not fit is refused at open, with a sentence that says what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import dsdq
from dsdq.errors import ConfigError, RefusedError
from dsdq.models.tokenizer import Tokenizer
from dsdq.settings import settings
from tests.conftest import Serve


async def ids_of(generation: dsdq.Generation) -> list[int]:
    return [token.id async for token in generation]


async def test_a_draft_of_another_tokenizer_is_refused_naming_both_fingerprints(
    serve: Serve, tiny: Callable[[str], Path], redis_url: str
) -> None:
    draft = str(tiny("llama"))
    own, other = Tokenizer.load("builtin/target").fingerprint, Tokenizer.load(draft).fingerprint
    async with serve("builtin/target"), dsdq.connect(redis_url) as client:
        with pytest.raises(RefusedError) as refusal:
            await ids_of(client.generate("x = 1", draft=draft))
    assert refusal.value.code == "fingerprint_mismatch"
    assert own in str(refusal.value)
    assert other in str(refusal.value)
    assert "retokenise:" in str(refusal.value)


async def test_a_context_that_cannot_fit_is_refused_with_the_numbers(serve: Serve, redis_url: str) -> None:
    async with serve("builtin/target"), dsdq.connect(redis_url) as client:
        with pytest.raises(RefusedError) as refusal:
            await ids_of(client.generate([5] * 100, draft="ngram", max_tokens=1_000_000))
    assert refusal.value.code == "context_too_long"
    assert "1000000" in str(refusal.value)


async def test_the_rejection_rule_is_refused_unless_the_tenant_is_trusted(serve: Serve, redis_url: str) -> None:
    async with serve("builtin/target"), dsdq.connect(redis_url) as client:
        for trusted in (False, True):  # a device cannot make itself trusted
            with pytest.raises(RefusedError) as refusal:
                await ids_of(client.generate("x", draft="ngram", rule=dsdq.Rule.REJECTION, trusted=trusted))
            assert refusal.value.code == "untrusted"
    async with serve("builtin/target", trusted_tenants=("default",)), dsdq.connect(redis_url) as client:
        sampling = dsdq.Sampling(temperature=1.0)
        ids = await ids_of(
            client.generate("x", sampling=sampling, rule=dsdq.Rule.REJECTION, trusted=True, max_tokens=20)
        )
        assert 1 <= len(ids) <= 20
        with pytest.raises(RefusedError):
            await ids_of(client.generate("x", draft="ngram", rule=dsdq.Rule.REJECTION, trusted=False))


async def test_no_verifier_is_said_plainly(redis_url: str) -> None:
    async with dsdq.connect(redis_url) as client:
        client._settings = settings().model_copy(update={"find_verifier_ms": 200})
        with pytest.raises(ConfigError, match="expected a verifier"):
            await ids_of(client.generate("x", draft="ngram"))
