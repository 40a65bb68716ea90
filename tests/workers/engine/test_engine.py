"""The engine's logits: the model's own, and the same bits whatever else is in the batch and however a text was cut."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from dsdq.errors import ModelError
from dsdq.models.target import load_target
from dsdq.policies.paging import BLOCK, Paging
from dsdq.testing.tiny import ARCHITECTURES, CONTEXT_TOKENS, VOCAB_SIZE
from workers.engine import memory
from workers.engine.engine import Engine
from workers.engine.forward import Options, forward_on_its_device
from workers.engine.memory import KvMemory, blocks_within
from workers.engine.rows import Row

TEXT_TOKENS = 150
NEIGHBOURS = 32


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def folder(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Path:
    return tiny(request.param)


class Bench:
    """An engine and who holds which of its blocks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.paging = Paging(self.engine.kv_blocks, shares=False)

    def row(self, session: str, start: int, tokens: Sequence[int], keep: int) -> Row:
        if session not in self.paging:
            self.paging.admit(session, "")
        assert self.paging.reserve(session, start + len(tokens))
        return Row(session, start, tokens, keep, tuple(self.paging[session].blocks))

    def feed(self, session: str, start: int, tokens: Sequence[int]) -> torch.Tensor:
        return self.engine.forward([self.row(session, start, tokens, len(tokens))]).clone()

    def whole(self, tokens: Sequence[int]) -> torch.Tensor:
        logits = self.feed("alone", 0, tokens)
        self.paging.release("alone")
        return logits


@pytest.fixture(scope="module")
def bench(folder: Path) -> Bench:
    return Bench(Engine(load_target(str(folder)), KvMemory(tokens=8192)))


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if "bench" in request.fixturenames:
        paging = request.getfixturevalue("bench").paging
        for session in list(paging):
            paging.release(session)


def text(seed: int, tokens: int = TEXT_TOKENS) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(VOCAB_SIZE) for _ in range(tokens)]


def cuts(seed: int, tokens: int, most: int) -> list[tuple[int, int]]:
    source, start, found = random.Random(seed), 0, []
    while start < tokens:
        end = min(tokens, start + source.randint(1, most))
        found.append((start, end))
        start = end
    return found


def test_logits_are_the_models_own(bench: Bench, folder: Path) -> None:
    tokens = text(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = model(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(bench.whole(tokens), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("window", [1, 4, 8, 9])
def test_windows_of_any_width_change_no_bit(bench: Bench, window: int) -> None:
    tokens = text(2)
    wanted = bench.whole(tokens)
    for start in range(0, TEXT_TOKENS, window):
        end = min(start + window, TEXT_TOKENS)
        assert torch.equal(bench.feed("s", start, tokens[start:end]), wanted[start:end]), start


@pytest.mark.parametrize("most", [3, 17, 40, 100])
def test_how_a_prompt_was_cut_changes_no_bit(bench: Bench, most: int) -> None:
    tokens = text(3)
    wanted = bench.whole(tokens)
    for start, end in cuts(most, TEXT_TOKENS, most):
        assert torch.equal(bench.feed("s", start, tokens[start:end]), wanted[start:end]), (start, end)


def test_neighbours_in_the_batch_change_no_bit(bench: Bench) -> None:
    texts = [text(10 + number, 20 + 4 * number) for number in range(NEIGHBOURS)]
    wanted = [bench.whole(tokens) for tokens in texts]
    fed = [0] * NEIGHBOURS
    source = random.Random(5)
    while ready := [number for number in range(NEIGHBOURS) if fed[number] < len(texts[number])]:
        chosen = source.sample(ready, source.randint(1, len(ready)))
        ends = [min(len(texts[number]), fed[number] + source.randint(1, 20)) for number in chosen]
        rows = [
            bench.row(str(number), fed[number], texts[number][fed[number] : end], end - fed[number])
            for number, end in zip(chosen, ends, strict=True)
        ]
        parts = bench.engine.forward(rows).split([row.keep for row in rows])
        for number, end, got in zip(chosen, ends, parts, strict=True):
            assert torch.equal(got, wanted[number][fed[number] : end]), (number, fed[number], end)
            fed[number] = end


def test_where_in_memory_a_text_lies_changes_no_bit(bench: Bench) -> None:
    tokens = text(7)
    wanted = bench.whole(tokens)
    for number in range(5):
        bench.feed(str(number), 0, text(number, 70))
    for number in (3, 0):
        bench.paging.release(str(number))
    assert torch.equal(bench.feed("s", 0, tokens), wanted)
    assert bench.paging["s"].blocks != sorted(bench.paging["s"].blocks)


def test_what_was_rejected_is_overwritten_without_a_trace(bench: Bench) -> None:
    tokens, wrong = text(3), text(4)
    wanted = bench.whole(tokens)
    bench.feed("s", 0, tokens[:50])
    bench.feed("s", 50, wrong[:17])
    assert torch.equal(bench.feed("s", 50, tokens[50:]), wanted[50:])


def test_what_another_session_left_in_a_block_is_never_looked_at(bench: Bench) -> None:
    tokens = text(6)
    wanted = bench.whole(tokens)
    pool = bench.engine._forward.pool
    for keys, values in pool._layers.values():  # type: ignore[attr-defined]
        keys.fill(float("nan"))
        values.fill(float("inf"))
    try:
        assert torch.equal(bench.feed("s", 0, tokens), wanted)
    finally:
        pool.resize(pool.blocks)


def test_only_what_is_asked_for_is_returned(bench: Bench) -> None:
    rows = [bench.row("a", 0, text(1, 10), 0), bench.row("b", 0, text(2, 10), 3)]
    assert bench.engine.forward(rows).shape == (3, VOCAB_SIZE)
    assert bench.engine.forward([bench.row("a", 10, [1], 0)]).shape == (0, VOCAB_SIZE)


@pytest.fixture(scope="module")
def small(tiny: Callable[[str], Path]) -> Engine:
    return Engine(load_target(str(tiny("llama"))), KvMemory(tokens=256))


@pytest.mark.parametrize(
    "row",
    [
        Row("s", 0, [], 0, (0,)),
        Row("s", -1, [1], 1, (0,)),
        Row("s", 60, [1] * 10, 1, (0,)),
        Row("s", 0, [1], 2, (0,)),
        Row("s", 0, [VOCAB_SIZE], 1, (0,)),
        Row("s", 0, [-1], 1, (0,)),
        Row("s", 0, [1], 1, ()),
        Row("s", 0, [1], 1, (4,)),
        Row("s", CONTEXT_TOKENS, [1], 1, tuple(range(4)) * 3),
    ],
    ids=[
        "empty",
        "negative start",
        "beyond its blocks",
        "keeps too much",
        "unknown id",
        "negative id",
        "no block",
        "unknown block",
        "beyond the context",
    ],
)
def test_a_row_that_makes_no_sense_is_refused_before_anything_runs(small: Engine, row: Row) -> None:
    with pytest.raises(ModelError):
        small.forward([row])


def test_a_session_has_one_row_at_a_time(small: Engine) -> None:
    with pytest.raises(ModelError, match="one row per session"):
        small.forward([Row("s", 0, [1], 1, (0,)), Row("s", 1, [1], 1, (0,))])


def test_the_cache_has_as_many_blocks_as_its_memory_buys(small: Engine, tiny: Callable[[str], Path]) -> None:
    assert small.kv_tokens == 4 * BLOCK
    budget = 10 * small.block_bytes - 1
    assert Engine(load_target(str(tiny("llama"))), KvMemory(bytes=budget)).kv_blocks == 9


def test_what_is_chosen_for_a_gpu_changes_nothing_on_the_cpu(bench: Bench, folder: Path) -> None:
    chosen = Engine(load_target(str(folder)), KvMemory(tokens=256), Options(deterministic=True, graphs=False))
    tokens = text(1, 40)
    assert torch.equal(chosen.forward([Row("s", 0, tokens, 40, (0,))]), bench.whole(tokens))
    assert chosen.target.numerics == bench.engine.target.numerics


def test_a_gpu_without_triton_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("triton", "triton.errors"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "workers.engine.cuda_forward", raising=False)
    target = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(ModelError, match="needs triton, which is not installed"):
        forward_on_its_device(target, Options())  # type: ignore[arg-type]


def test_layers_on_several_gpus_have_what_the_fullest_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    free = {first: 1000, second: 800}
    monkeypatch.setattr(memory, "free_on", free.__getitem__)
    monkeypatch.setitem(memory.SHARE_OF_FREE, "cuda", 0.5)
    assert blocks_within(KvMemory(), {first: 10, second: 20}, CONTEXT_TOKENS) == 20
    assert blocks_within(KvMemory(bytes=300), {first: 10, second: 20}, CONTEXT_TOKENS) == 10


def test_a_budget_below_two_blocks_is_refused_with_its_numbers(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="KV budget: expected room for at least two blocks"):
        Engine(load_target(str(tiny("llama"))), KvMemory(tokens=100))
