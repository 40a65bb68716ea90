"""Under the coupled rule the text is a function of contract, prompt and seed: the drafter cannot be seen in it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import dsdq
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.reference import load_reference
from tests.conftest import Serve

TARGET = "builtin/target"
PROMPT = "def read_config(path):\n"
NEW_TOKENS = 48
WINDOWS = (1, 4, 9)
SAMPLING = dsdq.Sampling(temperature=0.9, top_k=200, top_p=0.98)


def alone(seed: int) -> list[int]:
    prompt = Tokenizer.load(TARGET).encode(PROMPT)
    return load_reference(TARGET).decode(prompt, NEW_TOKENS, SAMPLING, seed)


async def text_of(client: dsdq.Client, draft: str, window: int, seed: int) -> list[int]:
    generation = client.generate(
        PROMPT, draft=draft, window=window, seed=seed, sampling=SAMPLING, max_tokens=NEW_TOKENS
    )
    return [token.id async for token in generation]


@pytest.mark.parametrize("seed", [7, 2**63 + 11])
async def test_text_is_bit_equal_across_drafters_windows_and_devices(serve: Serve, redis_url: str, seed: int) -> None:
    wanted = alone(seed)
    async with serve(TARGET):
        for draft in ("none", "ngram", "builtin/draft", "transformers:builtin/draft", "random"):
            async with dsdq.connect(redis_url) as client:
                texts = await asyncio.gather(*(text_of(client, draft, window, seed) for window in WINDOWS))
            assert texts == [wanted] * len(WINDOWS), (draft, seed)


@pytest.mark.parametrize("chosen", [SAMPLING, dsdq.Sampling()], ids=["sampled", "greedy"])
async def test_a_draft_model_that_ends_its_drafts_where_it_doubts_changes_nothing_in_the_text(
    serve: Serve, redis_url: str, chosen: dsdq.Sampling
) -> None:
    async def generated(client: dsdq.Client, **terms: Any) -> dsdq.Generation:
        generation = client.generate(PROMPT, window=12, seed=7, sampling=chosen, max_tokens=NEW_TOKENS, **terms)
        async for _ in generation:
            pass
        return generation

    async with serve(TARGET), dsdq.connect(redis_url) as client:
        wanted = await generated(client, draft="none")
        whole = await generated(client, draft="builtin/draft", policy="threshold:0")
        careful = [await generated(client, draft="builtin/draft", policy=f"threshold:0.6:{d}", depth=d) for d in (1, 3)]
    assert [one.ids for one in (whole, *careful)] == [wanted.ids] * 3
    assert careful[0].stats.drafted_tokens < whole.stats.drafted_tokens


@pytest.mark.parametrize("devices", [1, 2, 3])
async def test_neighbours_in_the_batch_do_not_change_the_text(serve: Serve, redis_url: str, devices: int) -> None:
    seed = 42
    wanted = alone(seed)

    async def device(window: int) -> list[int]:
        async with dsdq.connect(redis_url) as client:
            return await text_of(client, "builtin/draft", window, seed)

    async with serve(TARGET):
        texts = await asyncio.gather(*(device(window) for window in (4, 9, 1)[:devices]))
    assert texts == [wanted] * devices


async def test_another_seed_gives_another_text_and_the_same_seed_the_same(serve: Serve, redis_url: str) -> None:
    async with serve(TARGET), dsdq.connect(redis_url) as client:
        first, again, other = [await text_of(client, "ngram", 4, seed) for seed in (1, 1, 2)]
    assert first == again
    assert first != other
