"""A real verifier that drafts itself: the text is the target's alone, whatever drafts and who else is served."""

from __future__ import annotations

import asyncio

import pytest

import dsdq
from dsdq.contract import Sampling
from dsdq.errors import ConfigError
from dsdq.policies.steering import Steering
from producers.demo.command import builtin_prompts
from tests.conftest import Serve

SAMPLINGS = {
    "greedy": Sampling(),
    "sampled": Sampling(temperature=1.0),
    "with everything": Sampling(temperature=0.8, top_p=0.9, top_k=50, frequency_penalty=0.4, logit_bias=((12, 1.5),)),
}
ENDS = ({}, {"stop": "\n\n"}, {"logprobs": 2, "ignore_eos": True})


async def generate(client: dsdq.Client, number: int, sampling: Sampling, policy: str) -> dsdq.Generation:
    prompt = builtin_prompts()[number]
    ends = ENDS[number % len(ENDS)]
    generation = client.generate(
        prompt, draft="none", policy=policy, sampling=sampling, max_tokens=40, seed=number, window=8, **ends
    )  # type: ignore[arg-type]
    async for _ in generation:
        pass
    return generation


@pytest.mark.parametrize("draft", ["builtin/draft", "ngram"])
async def test_the_text_is_that_of_the_target_alone(
    serve: Serve, redis_url: str, draft: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Steering, "own_window", lambda *_: 8)  # how fast this machine is must not decide
    async with serve("builtin/target", colocated_draft=draft) as verifier, dsdq.connect(redis_url) as client:
        assert verifier.info.drafts
        for name, sampling in SAMPLINGS.items():
            many = [
                generate(client, number, sampling, policy)
                for number in range(4)
                for policy in ("target-only", "co-located")
            ]
            made = await asyncio.gather(*many)
            for alone, drafted in zip(made[::2], made[1::2], strict=True):
                assert drafted.ids == alone.ids, name
                assert drafted.finish_reason == alone.finish_reason
            stats = [one.stats for one in made[1::2]]
            assert sum(one.accepted_tokens for one in stats) > 0
            if draft == "builtin/draft":
                verdicts = sum(len(one.verify_ms) for one in stats)
                assert sum(one.committed_tokens for one in stats) > 1.5 * verdicts, name


async def test_a_draft_of_another_tokenizer_is_refused_at_the_start(serve: Serve, tiny: object) -> None:
    with pytest.raises(ConfigError, match="expected the tokenizer of the target"):
        async with serve("builtin/target", colocated_draft=str(tiny("llama"))):  # type: ignore[operator]
            pass
