"""A line is asked for as the gateway asks; what may pass is told from what never will."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from dsdq.bus.tenants import TenantStore
from dsdq.errors import BusyError
from dsdq.models.names import HASH_TARGET
from dsdq.settings import Settings
from dsdq.tenants import Tenant
from producers.batch.asking import Asking
from producers.openai.requests import CHAT, COMPLETIONS
from producers.openai.tenants import Tenants
from tests.conftest import Serve

BODY: dict[str, Any] = {"model": HASH_TARGET, "prompt": [1, 2, 3], "max_tokens": 20}


@pytest.fixture
async def asking(redis: Redis, redis_url: str) -> AsyncIterator[Asking]:
    chosen = Settings(redis_url=redis_url, find_verifier_ms=200)
    found = Asking(redis_url, chosen, Tenants(TenantStore(redis)), ("hash:0.8",))
    yield found
    await found.aclose()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "model"),
        (BODY | {"prompt": []}, "prompt"),
        (BODY | {"prompt": [True]}, "prompt"),
        (BODY | {"max_tokens": "many"}, "max_tokens"),
        (BODY | {"temperature": float("nan")}, "temperature"),
        (BODY | {"n": [1]}, "n"),
        (BODY | {"stream": True}, "stream"),
        (BODY | {"messages": []}, "messages"),
    ],
)
async def test_a_body_that_is_not_what_was_expected_is_an_answer(asking: Asking, body: Any, named: str) -> None:
    answer = await asking("default", COMPLETIONS, body, 1)
    assert (answer.status, answer.body["error"]["param"]) == (400, named)


async def test_lines_wait_for_a_verifier_and_for_a_tenant_that_is_shut_out(
    asking: Asking, redis: Redis, serve: Serve
) -> None:
    with pytest.raises(BusyError, match="expected a verifier"):
        await asking("default", COMPLETIONS, BODY, 1)
    await TenantStore(redis).add(Tenant(name="acme", created=datetime.now(UTC), enabled=False))
    async with serve(HASH_TARGET):
        with pytest.raises(BusyError, match="disabled"):
            await asking("acme", COMPLETIONS, BODY, 1)


async def test_a_seed_is_the_lines_own_where_it_names_none(asking: Asking, serve: Serve) -> None:
    async with serve(HASH_TARGET):
        drawn = [await asking("default", COMPLETIONS, BODY, seed) for seed in (7, 7, 8)]
        own = [await asking("default", COMPLETIONS, BODY | {"seed": 7}, seed) for seed in (1, 2)]
        chat = {"model": HASH_TARGET, "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
        assert (await asking("default", CHAT, chat, 1)).body["object"] == "chat.completion"
        assert (await asking("default", COMPLETIONS, BODY | {"model": "nobody"}, 1)).status == 404
    texts = [one.body["choices"][0]["text"] for one in (*drawn, *own)]
    assert texts[0] == texts[1] == texts[3] == texts[4] != texts[2]
    assert drawn[0].body["usage"] == {"prompt_tokens": 3, "completion_tokens": 20, "total_tokens": 23}
    assert 0 < drawn[0].body["metrics"]["accepted_tokens"] <= drawn[0].body["metrics"]["judged_tokens"]
