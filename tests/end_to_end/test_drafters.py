"""Whatever runs the draft, and whatever its tokenizer: the text is the target's alone, and some of the draft stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import dsdq
from dsdq.errors import ConfigError, ModelError
from tests.conftest import Export, Serve

TARGET = "builtin/target"
PROMPT = 'def read_config(path):\n    """Liest die Datei für 🦊."""\n'
NEW_TOKENS = 48
SAMPLINGS = [dsdq.Sampling(), dsdq.Sampling(temperature=0.9, top_k=200, frequency_penalty=0.3)]


async def generated(client: dsdq.Client, draft: str, sampling: dsdq.Sampling) -> tuple[list[int], float]:
    """Return the text's ids, and how many of the drafted tokens were accepted."""
    generation = client.generate(
        PROMPT, draft=draft, window=6, seed=7, sampling=sampling, max_tokens=NEW_TOKENS, ignore_eos=True
    )
    ids = [token.id async for token in generation]
    return ids, generation.stats.acceptance_rate


@pytest.mark.parametrize("form", ["onnx", "gguf", "renumbered"])
async def test_the_text_is_the_targets_alone_and_most_of_the_draft_stands(
    serve: Serve, redis_url: str, export: Export, form: str
) -> None:
    draft = f"retokenise:{export(form)}" if form == "renumbered" else export(form)
    async with serve(TARGET), dsdq.connect(redis_url) as client:
        for sampling in SAMPLINGS:
            alone, _ = await generated(client, "none", sampling)
            known, usual = await generated(client, "builtin/draft", sampling)
            ids, accepted = await generated(client, draft, sampling)
            assert ids == known == alone
            assert accepted > 0.6 * usual


@pytest.mark.parametrize("draft", ["{llama}", "transformers:{gpt2}"])
async def test_a_draft_that_says_something_else_in_other_tokens_does_not_change_the_text(
    serve: Serve, redis_url: str, tiny: Callable[[str], Path], draft: str
) -> None:
    name = "retokenise:" + draft.format(llama=tiny("llama"), gpt2=tiny("gpt2"))
    async with serve(TARGET), dsdq.connect(redis_url) as client:
        for sampling in SAMPLINGS:
            alone, _ = await generated(client, "none", sampling)
            assert (await generated(client, name, sampling))[0] == alone


async def test_under_the_rejection_rule_only_a_draft_of_the_targets_tokenizer_is_used(
    serve: Serve, redis_url: str, export: Export
) -> None:
    terms = {"rule": dsdq.Rule.REJECTION, "trusted": True, "sampling": dsdq.Sampling(1.0), "max_tokens": 20}
    async with serve(TARGET, trusted_tenants=("default",)), dsdq.connect(redis_url) as client:
        with pytest.raises(ConfigError, match="coupled"):
            async for _ in client.generate("x", draft=f"retokenise:{export('renumbered')}", **terms):  # type: ignore[arg-type]
                pass
        same = client.generate("x", draft="retokenise:builtin/draft", **terms)  # type: ignore[arg-type]
        assert [token.id async for token in same]


async def test_a_gguf_model_of_another_vocabulary_is_refused_unless_it_may_be_encoded_again(
    serve: Serve, redis_url: str, tiny: Callable[[str], Path], export: Export
) -> None:
    draft = export("gguf")
    async with serve(tiny("gpt2")), dsdq.connect(redis_url) as client:
        with pytest.raises(ModelError, match="retokenise:"):
            await generated(client, draft, SAMPLINGS[0])
        alone, _ = await generated(client, "none", SAMPLINGS[0])
        assert (await generated(client, f"retokenise:{draft}", SAMPLINGS[0]))[0] == alone
