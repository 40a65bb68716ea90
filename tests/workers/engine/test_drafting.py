"""Drafts of a model for many sessions: those of a target that decodes alone, whatever was fed, kept or lost before."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dsdq.contract import Contract, Sampling
from dsdq.models.target import load_target
from dsdq.policies.batching import StepBudget
from dsdq.testing.tiny import CONTEXT_TOKENS, VOCAB_SIZE
from workers.engine.colocated import Wish
from workers.engine.drafting import ModelDrafter
from workers.engine.engine import Engine
from workers.engine.judging import JudgingEngine
from workers.engine.llama_forward import LlamaForward, serves
from workers.engine.memory import KvMemory
from workers.engine.offline import Offline
from workers.engine.planner import Planner
from workers.engine.rows import Row

WIDE = StepBudget(window_tokens=512, prefill_tokens=512)
CONTRACT = Contract("acme", "phone", "s", "m", "f", max_tokens=40, max_window=8, ignore_eos=True)
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=1.0),
    Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.3, logit_bias=((7, 3.0),)),
]


@pytest.fixture(scope="module")
def engine(tiny: Callable[[str], Path]) -> Engine:
    return Engine(load_target(str(tiny("llama"))), KvMemory(tokens=4096))


def contract(number: int, **changed: object) -> Contract:
    terms = {"session": f"s{number}", "seed": number, "sampling": SAMPLINGS[number % len(SAMPLINGS)]}
    return replace(CONTRACT, **{**terms, **changed})  # type: ignore[arg-type]


def prompt(number: int) -> list[int]:
    source = random.Random(number)
    return [source.randrange(VOCAB_SIZE) for _ in range(source.randint(3, 150))]


def own(engine: Engine, terms: Contract, text: Sequence[int], eos_ids: Sequence[int] = ()) -> list[int]:
    """Return what the model says alone."""
    batch = Offline(engine, Planner(engine.kv_blocks, WIDE), eos_ids)
    made = batch.add(terms, text)
    batch.run()
    return made.tokens


def wish(number: int, text: Sequence[int], prompt_tokens: int, window: int = 4, **changed: object) -> Wish:
    return Wish(f"acme/s{number}", contract(number, **changed), text, prompt_tokens, window)


@pytest.mark.parametrize("tokens", [4096, 640], ids=["room for all", "room for some"])
def test_a_draft_is_what_the_model_would_say_however_its_texts_went_on(engine: Engine, tokens: int) -> None:
    texts = [prompt(number) for number in range(9)]
    wanted = [own(engine, contract(number), text) for number, text in enumerate(texts)]
    drafter = ModelDrafter(JudgingEngine(_sized(engine, tokens)), WIDE, sessions=6)
    source, grown, drafted = random.Random(1), [list(text) for text in texts], 0
    while any(len(text) < len(first) + 35 for text, first in zip(grown, texts, strict=True)):
        chosen = source.sample(range(9), 5)
        drafts = drafter.draft([wish(number, grown[number], len(texts[number])) for number in chosen]).tokens
        for number, draft in zip(chosen, drafts, strict=True):
            said = len(grown[number]) - len(texts[number])
            assert list(draft) == wanted[number][said : said + len(draft)]
            drafted += len(draft)
            # As a target of another mind would: some of the draft stands, or all of it, and one more token.
            grown[number] += wanted[number][said : said + source.randint(1, 5)][: 36 - said]
    assert drafted > 100
    assert len(drafter._fed) <= 6


def _sized(engine: Engine, tokens: int) -> Engine:
    engine.resize(tokens // 64)
    return engine


def test_another_text_of_the_same_name_is_begun_anew(engine: Engine) -> None:
    drafter = ModelDrafter(JudgingEngine(_sized(engine, 4096)), WIDE, sessions=4)
    for seed in (1, 2):
        text = prompt(seed)
        (draft,) = drafter.draft([wish(0, text, len(text))]).tokens
        assert list(draft) == own(_sized(engine, 4096), contract(0), text)[:4]


def test_until_a_long_text_is_fed_piece_by_piece_there_is_no_draft(engine: Engine) -> None:
    drafter = ModelDrafter(JudgingEngine(_sized(engine, 4096)), StepBudget(64, prefill_tokens=50), sessions=4)
    text = [number % 300 for number in range(150)]
    lengths = [len(drafter.draft([wish(0, text, len(text))]).tokens[0]) for _ in range(4)]
    assert lengths == [0, 0, 4, 4]


@pytest.mark.parametrize("left", [0, 2])
def test_a_draft_ends_with_the_draft_models_context(engine: Engine, left: int) -> None:
    drafter = ModelDrafter(JudgingEngine(_sized(engine, 4096)), WIDE, sessions=4)
    text = [number % 300 for number in range(CONTEXT_TOKENS - left)]
    (draft,) = drafter.draft([wish(0, text, len(text))]).tokens
    assert len(draft) == left


def test_behind_an_end_nothing_is_drafted(engine: Engine) -> None:
    text = prompt(4)
    said = own(_sized(engine, 4096), contract(0), text)
    drafter = ModelDrafter(JudgingEngine(_sized(engine, 4096)), WIDE, sessions=4)
    stop = said[2]
    (draft,) = drafter.draft([wish(0, text, len(text), window=8, stop_ids=(stop,))]).tokens
    assert list(draft) == said[: said.index(stop) + 1]


def test_a_small_llama_without_a_framework_computes_the_same(tiny: Callable[[str], Path], engine: Engine) -> None:
    target = load_target(str(tiny("llama")))
    assert serves(target)
    light = Engine(target, KvMemory(tokens=1024), forward=LlamaForward(target))
    _sized(engine, 4096)
    rows = [Row("a", 0, prompt(1), 3, (0, 1, 2)), Row("b", 0, prompt(2), 2, (3, 4, 5))]
    for some in (rows, [Row("a", len(rows[0].tokens), (5, 6), 2, (0, 1, 2))]):
        torch.testing.assert_close(light.forward(some), engine.forward(some), rtol=0, atol=2e-4)


def test_other_models_run_as_targets_do(tiny: Callable[[str], Path]) -> None:
    assert not serves(load_target(str(tiny("gemma"))))
