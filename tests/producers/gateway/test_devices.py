"""A device that reaches no Redis: its texts over a gateway's WebSocket are those over Redis."""

from __future__ import annotations

import asyncio

import pytest

import dsdq
from dsdq.contract import Sampling
from dsdq.models.names import HASH_TARGET
from dsdq.testing.hashed import VOCAB_SIZE, decode
from tests.conftest import Serve
from tests.producers.gateway.conftest import OpenGateway, socket_at

TOKENS = 60


@pytest.mark.parametrize("draft", ["hash:0.8", "none", "ngram"])
@pytest.mark.parametrize("depth", [1, 3, None])
async def test_a_text_is_the_same_over_a_gateway_as_over_redis(
    serve: Serve, open_gateway: OpenGateway, redis_url: str, draft: str, depth: int | None
) -> None:
    async with (
        serve(HASH_TARGET),
        open_gateway() as url,
        dsdq.connect(redis_url) as direct,
        dsdq.connect(socket_at(url)) as through,
    ):
        for temperature in (0.0, 1.0):
            asked = {"draft": draft, "depth": depth, "sampling": Sampling(temperature), "seed": 7, "max_tokens": TOKENS}
            texts = []
            for client in (direct, through):
                generation = client.generate([1, 2, 3], **asked)  # type: ignore[arg-type]
                texts.append([token.id async for token in generation])
                assert generation.finish_reason == "length"
                assert generation.receipt is not None
            assert texts[0] == texts[1] == decode([1, 2, 3], TOKENS, Sampling(temperature), 7)
