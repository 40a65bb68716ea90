"""Penalties, biases and stop strings change the target's text, and then a draft changes nothing in it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgpack
import pytest
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.publishing import publish
from dsdq.bus.sessions import read_log
from dsdq.contract import Contract
from dsdq.errors import RefusedError
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.reference import load_reference
from dsdq.wire import Error, Open, pack, pack_contract, unpack
from tests.conftest import Serve

TARGET = "builtin/target"
PROMPT = "def read_config(path):\n"
NEW_TOKENS = 48
WINDOWS = (1, 9)
SEED = 20_261_127
ALL = dsdq.Sampling(
    repetition_penalty=1.2, presence_penalty=0.4, frequency_penalty=-0.3, logit_bias=((5, -100.0), (17, 3.5))
)
CONTROLS = [
    dsdq.Sampling(repetition_penalty=1.3),
    dsdq.Sampling(frequency_penalty=0.7, presence_penalty=0.5),
    replace(ALL, temperature=0.9, top_k=200, top_p=0.98),
]
IDS = ["greedy, repetition", "greedy, frequency and presence", "sampled, all"]


def alone(chosen: dsdq.Sampling) -> list[int]:
    prompt = Tokenizer.load(TARGET).encode(PROMPT)
    return load_reference(TARGET).decode(prompt, NEW_TOKENS, chosen, SEED)


async def text_of(client: dsdq.Client, draft: str, window: int, chosen: dsdq.Sampling) -> list[int]:
    generation = client.generate(PROMPT, draft=draft, window=window, seed=SEED, sampling=chosen, max_tokens=NEW_TOKENS)
    return [token.id async for token in generation]


@pytest.mark.parametrize("chosen", CONTROLS, ids=IDS)
async def test_text_is_the_references_whatever_drafts_it(serve: Serve, redis_url: str, chosen: dsdq.Sampling) -> None:
    wanted = alone(chosen)
    assert wanted != alone(dsdq.Sampling(chosen.temperature, chosen.top_k, chosen.top_p)), "nothing was adjusted"
    async with serve(TARGET), dsdq.connect(redis_url) as client:
        for draft in ("none", "ngram", "builtin/draft", "transformers:builtin/draft", "random"):
            texts = await asyncio.gather(*(text_of(client, draft, window, chosen) for window in WINDOWS))
            assert texts == [wanted] * len(WINDOWS), draft


@pytest.mark.parametrize("chosen", CONTROLS, ids=IDS)
async def test_a_draft_that_is_the_target_is_accepted_whole(
    serve: Serve, redis_url: str, chosen: dsdq.Sampling
) -> None:
    async with serve(TARGET), dsdq.connect(redis_url) as client:
        generation = client.generate(
            PROMPT, draft=TARGET, window=7, seed=SEED, sampling=chosen, max_tokens=NEW_TOKENS, ignore_eos=True
        )
        ids = [token.id async for token in generation]
    assert len(ids) == NEW_TOKENS
    assert generation.stats.acceptance_rate == 1.0


async def test_neighbours_with_other_controls_do_not_change_the_text(serve: Serve, redis_url: str) -> None:
    async def one(client: dsdq.Client, chosen: dsdq.Sampling) -> list[int]:
        generation = client.generate(PROMPT, seed=SEED, sampling=chosen, max_tokens=NEW_TOKENS)
        return [token.id async for token in generation]

    async with serve(TARGET), dsdq.connect(redis_url) as client:
        texts = await asyncio.gather(*(one(client, chosen) for chosen in CONTROLS))
    assert texts == [alone(chosen) for chosen in CONTROLS]


async def test_a_bias_can_forbid_and_force_a_token(serve: Serve, redis_url: str) -> None:
    first = alone(dsdq.Sampling())[0]
    async with serve(TARGET), dsdq.connect(redis_url) as client:
        for biases, holds in ((((first, -100.0),), False), (((first, 100.0),), True)):
            chosen = dsdq.Sampling(logit_bias=biases)
            generation = client.generate(PROMPT, sampling=chosen, max_tokens=6, ignore_eos=True)
            ids = [token.id async for token in generation]
            assert (ids == [first] * 6) if holds else (first not in ids)


async def test_under_the_rejection_rule_an_adjusted_law_is_drawn_from(serve: Serve, redis_url: str) -> None:
    only = dsdq.Sampling(1.0, logit_bias=((40, 100.0),), presence_penalty=2.0)
    async with serve(TARGET, trusted_tenants=("default",)), dsdq.connect(redis_url) as client:
        generation = client.generate(
            PROMPT, sampling=only, rule=dsdq.Rule.REJECTION, trusted=True, max_tokens=12, ignore_eos=True
        )
        assert [token.id async for token in generation] == [40] * 12
    assert generation.stats.acceptance_rate == 1.0


async def test_a_bias_for_an_id_that_the_target_does_not_have_is_refused(serve: Serve, redis_url: str) -> None:
    async with serve(TARGET), dsdq.connect(redis_url) as client:
        chosen = dsdq.Sampling(logit_bias=((1_000_000, 1.0),))
        with pytest.raises(RefusedError, match=r"logit_bias") as refusal:
            await anext(aiter(client.generate(PROMPT, draft="ngram", sampling=chosen)))
    assert refusal.value.code == "terms_invalid"


async def test_terms_that_the_verifier_does_not_know_are_refused_with_an_answer(serve: Serve, redis: Redis) -> None:
    terms = Contract("default", "phone", "s1", TARGET, Tokenizer.load(TARGET).fingerprint)
    later = msgpack.packb({**msgpack.unpackb(pack_contract(terms), strict_map_key=False), 60: 1.5})
    async with serve(TARGET) as verifier:
        await publish(redis, verifier.info.wid, "default", pack(Open("s1", later, (5, 6))), opens=True)
        async with asyncio.timeout(30):
            while not (log := await read_log(redis, terms, 0)):
                await asyncio.sleep(0.005)
        assert await redis.xlen(keys.DEAD_LETTERS) == 0
    answer = unpack(log[0])
    assert isinstance(answer, Error)
    assert answer.code == "terms_invalid"
    assert "60" in answer.message


async def test_log_probabilities_are_the_targets_own_whatever_was_drafted(serve: Serve, redis_url: str) -> None:
    async with serve(TARGET), dsdq.connect(redis_url) as client:
        reports = []
        for draft in ("none", "builtin/draft"):
            generation = client.generate(PROMPT, draft=draft, sampling=ALL, max_tokens=20, logprobs=3)
            tokens = [token async for token in generation]
            reports.append([(token.id, token.logprob, token.top_logprobs) for token in tokens])
    assert reports[0] == reports[1]
    ids = [token for token, _, _ in reports[0]]
    wanted = load_reference(TARGET).logprobs(generation.prompt_ids, ids)
    for row, (token, logprob, top) in zip(wanted, reports[0], strict=True):
        assert logprob == pytest.approx(row[token], abs=1e-4)
        assert [value for _, value in top] == pytest.approx(sorted(row, reverse=True)[:3], abs=1e-4)
