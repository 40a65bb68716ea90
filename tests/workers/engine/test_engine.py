"""The engine's logits: the model's own, and the same bits whatever else is in the batch and however a text was cut."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from dsdq.errors import ModelError
from dsdq.models.target import load_target
from dsdq.testing.tiny import ARCHITECTURES, CONTEXT_TOKENS, VOCAB_SIZE
from workers.engine.engine import Engine, Row
from workers.engine.kv import EngineFullError

TEXT_TOKENS = 150


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def folder(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Path:
    return tiny(request.param)


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine(load_target(str(folder)), kv_tokens=4096)


def text(seed: int, tokens: int = TEXT_TOKENS) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(VOCAB_SIZE) for _ in range(tokens)]


def fed_whole(engine: Engine, tokens: Sequence[int]) -> torch.Tensor:
    engine.admit("alone", len(tokens))
    logits = engine.forward([Row("alone", 0, tokens, len(tokens))])
    engine.release("alone")
    return logits


def cuts(seed: int, tokens: int, most: int) -> list[tuple[int, int]]:
    source, start, found = random.Random(seed), 0, []
    while start < tokens:
        end = min(tokens, start + source.randint(1, most))
        found.append((start, end))
        start = end
    return found


def test_logits_are_the_models_own(engine: Engine, folder: Path) -> None:
    tokens = text(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = model(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(fed_whole(engine, tokens), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("most", [1, 4, 9, 40])
def test_how_a_text_was_cut_changes_no_bit(engine: Engine, most: int) -> None:
    tokens = text(2)
    wanted = fed_whole(engine, tokens)
    engine.admit("s", TEXT_TOKENS)
    for start, end in cuts(most, TEXT_TOKENS, most):
        got = engine.forward([Row("s", start, tokens[start:end], end - start)])
        assert torch.equal(got, wanted[start:end]), (start, end)


def test_neighbours_in_the_batch_change_no_bit(engine: Engine) -> None:
    texts = [text(10 + number) for number in range(4)]
    wanted = [fed_whole(engine, tokens) for tokens in texts]
    for number in range(4):
        engine.admit(str(number), TEXT_TOKENS)
    fed = [0] * 4
    source = random.Random(5)
    while min(fed) < TEXT_TOKENS:
        ready = [number for number in range(4) if fed[number] < TEXT_TOKENS]
        chosen = source.sample(ready, source.randint(1, len(ready)))
        ends = [min(TEXT_TOKENS, fed[number] + source.randint(1, 20)) for number in chosen]
        rows = [
            Row(str(number), fed[number], texts[number][fed[number] : end], end - fed[number])
            for number, end in zip(chosen, ends, strict=True)
        ]
        parts = engine.forward(rows).split([row.keep for row in rows])
        for number, end, got in zip(chosen, ends, parts, strict=True):
            assert torch.equal(got, wanted[number][fed[number] : end]), (number, fed[number], end)
            fed[number] = end


def test_what_was_rejected_is_overwritten_without_a_trace(engine: Engine) -> None:
    tokens, wrong = text(3), text(4)
    wanted = fed_whole(engine, tokens)
    engine.admit("s", TEXT_TOKENS + 20)
    engine.forward([Row("s", 0, tokens[:50], 1)])
    engine.forward([Row("s", 50, wrong[:17], 17)])
    got = engine.forward([Row("s", 50, tokens[50:], TEXT_TOKENS - 50)])
    assert torch.equal(got, wanted[50:])


def test_a_released_sessions_memory_says_nothing_to_the_next(engine: Engine) -> None:
    wanted = fed_whole(engine, text(6))
    engine.admit("secret", TEXT_TOKENS)
    engine.forward([Row("secret", 0, text(7), 1)])
    engine.release("secret")
    assert torch.equal(fed_whole(engine, text(6)), wanted)


def test_only_what_is_asked_for_is_returned(engine: Engine) -> None:
    for name in ("a", "b"):
        engine.admit(name, 30)
    rows = [Row("a", 0, text(1, 10), 0), Row("b", 0, text(2, 10), 3)]
    assert engine.forward(rows).shape == (3, VOCAB_SIZE)
    assert engine.forward([Row("a", 10, [1], 0)]).shape == (0, VOCAB_SIZE)


@pytest.fixture
def small(tiny: Callable[[str], Path]) -> Engine:
    return Engine(load_target(str(tiny("llama"))), kv_tokens=256)


@pytest.mark.parametrize(
    "row",
    [
        Row("s", 0, [], 0),
        Row("s", -1, [1], 1),
        Row("s", 60, [1] * 10, 1),
        Row("s", 0, [1], 2),
        Row("s", 0, [VOCAB_SIZE], 1),
        Row("s", 0, [-1], 1),
        Row("nobody", 0, [1], 1),
    ],
    ids=["empty", "negative start", "beyond its room", "keeps too much", "unknown id", "negative id", "not admitted"],
)
def test_a_row_that_makes_no_sense_is_refused_before_anything_runs(small: Engine, row: Row) -> None:
    small.admit("s", 64)
    with pytest.raises(ModelError):
        small.forward([row])


def test_a_session_has_one_row_at_a_time(small: Engine) -> None:
    small.admit("s", 64)
    with pytest.raises(ModelError, match="one row per session"):
        small.forward([Row("s", 0, [1], 1), Row("s", 1, [1], 1)])


def test_room_is_counted_and_given_back(small: Engine) -> None:
    small.admit("a", 100)
    small.admit("b", 65)
    assert small.used_kv_tokens == 256
    with pytest.raises(EngineFullError):
        small.admit("c", 1)
    small.release("a")
    small.admit("c", 100)
    with pytest.raises(EngineFullError, match=str(CONTEXT_TOKENS)):
        small.admit("d", CONTEXT_TOKENS + 1)


def test_a_budget_below_one_block_is_refused(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="KV budget"):
        Engine(load_target(str(tiny("llama"))), kv_tokens=10)
