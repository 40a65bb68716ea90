"""The whole engine over the CUDA kernels: on a GPU as it is, elsewhere on CPU tensors in Triton's interpreter."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from dsdq.errors import ModelError
from dsdq.models.target import load_target
from dsdq.policies.paging import BLOCK
from dsdq.testing.tiny import VOCAB_SIZE
from tests.workers.engine.test_cuda_graphs import Recorder
from tests.workers.engine.test_engine import Bench, cuts, text
from workers.engine.engine import Engine
from workers.engine.forward import Options
from workers.engine.memory import KvMemory

pytest.importorskip("triton", reason="Triton, which the CUDA kernels are written in, is not installed")

from workers.engine.cuda_forward import CudaForward

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
needs_cuda = [pytest.mark.cuda, pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")]
EAGER, GRAPHS = Options(graphs=False, step_tokens=64), Options(step_tokens=64)
FIXED, FIXED_GRAPHS = Options(deterministic=True, graphs=False), Options(deterministic=True, step_tokens=64)
TOKENS = 90
NEAR = 1e-3  # two logits of a tiny model that are closer may change places on a GPU

Make = Callable[..., Bench]


@pytest.fixture(scope="module", params=["llama", "mistral", "gemma2"])
def folder(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Path:
    return tiny(request.param)


def engine_of(folder: Path, options: Options, dtype: str = "float32") -> Engine:
    target = load_target(str(folder), DEVICE, dtype)
    forward = CudaForward(target, options, None if HAS_GPU else Recorder())
    return Engine(target, KvMemory(tokens=2048), options, forward=forward)


@pytest.fixture(scope="module")
def make(folder: Path) -> Make:
    """Return a function that gives a bench for options and a dtype, made once."""
    made: dict[tuple[Any, ...], Bench] = {}

    def bench(options: Options, dtype: str = "float32") -> Bench:
        if (options, dtype) not in made:
            made[options, dtype] = Bench(engine_of(folder, options, dtype))
        found = made[options, dtype]
        for session in list(found.paging):
            found.paging.release(session)
        return found

    return bench


def theirs(folder: Path, tokens: list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(DEVICE)
    with torch.inference_mode():
        return model(torch.tensor([tokens], device=DEVICE)).logits[0].float()


@pytest.mark.parametrize("options", [EAGER, GRAPHS, FIXED, FIXED_GRAPHS], ids=str)
def test_logits_are_the_models_own_whatever_is_fed_at_once(make: Make, folder: Path, options: Options) -> None:
    bench, tokens = make(options), text(1, TOKENS)
    parts = [bench.feed("s", start, tokens[start:end]) for start, end in [(0, 50), (50, 53), (53, 70), (70, TOKENS)]]
    torch.testing.assert_close(torch.cat(parts), theirs(folder, tokens), rtol=0, atol=1e-3)


@pytest.mark.parametrize("options", [FIXED, FIXED_GRAPHS], ids=str)
def test_deterministic_forwards_give_the_same_bits_however_a_text_was_cut(make: Make, options: Options) -> None:
    bench, tokens = make(options), text(2, TOKENS)
    wanted = bench.whole(tokens)
    for start, end in cuts(5, TOKENS, 40):
        assert torch.equal(bench.feed("s", start, tokens[start:end]), wanted[start:end]), (start, end)


@pytest.mark.parametrize("options", [FIXED, FIXED_GRAPHS], ids=str)
def test_deterministic_forwards_give_the_same_bits_in_any_company(make: Make, options: Options) -> None:
    bench = make(options)
    texts = [text(10 + number, 12 + 20 * number) for number in range(4)]
    wanted = [bench.whole(tokens) for tokens in texts]
    source, fed = random.Random(5), [0] * 4
    while ready := [number for number in range(4) if fed[number] < len(texts[number])]:
        chosen = source.sample(ready, source.randint(1, len(ready)))
        ends = [min(len(texts[number]), fed[number] + source.randint(1, 30)) for number in chosen]
        rows = [
            bench.row(str(number), fed[number], texts[number][fed[number] : end], end - fed[number])
            for number, end in zip(chosen, ends, strict=True)
        ]
        parts = bench.engine.forward(rows).split([row.keep for row in rows])
        for number, end, got in zip(chosen, ends, parts, strict=True):
            assert torch.equal(got, wanted[number][fed[number] : end]), (number, fed[number], end)
            fed[number] = end


def test_graphs_change_no_bit_of_deterministic_forwards(make: Make) -> None:
    tokens = text(4, TOKENS)
    assert torch.equal(make(FIXED).whole(tokens[:60]), make(FIXED_GRAPHS).whole(tokens[:60]))


@pytest.mark.parametrize("options", [EAGER, GRAPHS], ids=str)
def test_what_another_session_left_in_a_block_is_never_looked_at(make: Make, options: Options) -> None:
    bench, tokens = make(options), text(6, 30)
    wanted = bench.whole(tokens)
    for pools in bench.engine._forward.pool._layers.values():  # type: ignore[attr-defined]
        for pool in pools:
            pool.fill_(torch.nan)
    assert torch.equal(bench.feed("s", 0, tokens), wanted)


@pytest.mark.parametrize("options", [EAGER, GRAPHS], ids=str)
def test_only_what_is_asked_for_is_returned(make: Make, options: Options) -> None:
    bench = make(options)
    rows = [bench.row("a", 0, text(1, 10), 0), bench.row("b", 0, text(2, 10), 3)]
    assert bench.engine.forward(rows).shape == (3, VOCAB_SIZE)
    assert bench.engine.forward([bench.row("a", 10, [1], 0)]).shape == (0, VOCAB_SIZE)


@pytest.fixture
def llama(tiny: Callable[[str], Path]) -> Path:
    return tiny("llama")


def test_numerics_say_that_forwards_are_deterministic(llama: Path) -> None:
    numerics = [engine_of(llama, options).target.numerics for options in (EAGER, FIXED)]
    assert numerics[1] == numerics[0] + "/fixed"


def test_the_cache_takes_what_its_blocks_take(llama: Path) -> None:
    engine = engine_of(llama, EAGER)
    layers = engine._forward.pool._layers.values()  # type: ignore[attr-defined]
    assert engine.kv_blocks == 2048 // BLOCK
    assert engine.kv_blocks * engine.block_bytes == sum(pool.nbytes for pools in layers for pool in pools)


@pytest.mark.skipif(HAS_GPU, reason="counts captures by the recorder that stands for them elsewhere")
def test_a_shape_is_captured_once_until_the_cache_is_made_anew(llama: Path) -> None:
    engine = engine_of(llama, GRAPHS)
    recorder: Recorder = engine._forward._capture  # type: ignore[attr-defined]
    bench, tokens = Bench(engine), text(1, 30)
    captured = recorder.captured
    for start in range(0, 30, 3):  # one shape of 4 tokens
        bench.feed("s", start, tokens[start : start + 3])
    assert recorder.captured == captured + 1
    engine.resize(16)
    bench.feed("t", 0, tokens[:3])
    assert recorder.captured == captured + 2


def test_mixtures_cannot_be_deterministic_on_a_gpu(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="need a model without experts"):
        engine_of(tiny("mixtral"), FIXED)


@pytest.mark.parametrize("options", [pytest.param(Options(), marks=needs_cuda), EAGER], ids=str)
def test_mixtures_run_eagerly(tiny: Callable[[str], Path], options: Options) -> None:
    tokens = text(3, 20)
    got = Bench(engine_of(tiny("mixtral"), options)).whole(tokens)
    torch.testing.assert_close(got, theirs(tiny("mixtral"), tokens), rtol=0, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("options", [EAGER, GRAPHS, FIXED, FIXED_GRAPHS], ids=str)
def test_windows_choose_what_generate_does_but_for_near_ties(folder: Path, options: Options) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to("cuda")
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    ids = torch.tensor([text(1, 40)], device="cuda")
    whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=100, do_sample=False)[0].tolist()
    near = (theirs(folder, whole).topk(2).values.diff().abs() < NEAR)[39:-1, 0]
    bench = Bench(Engine(load_target(str(folder), "cuda"), KvMemory(tokens=1024), options))
    bench.feed("s", 0, whole[:39])
    got = [bench.feed("s", start, whole[start : start + 5]).argmax(-1) for start in range(39, len(whole), 5)]
    wrong = (torch.cat(got)[:-1] != torch.tensor(whole[40:], device="cuda")) & ~near
    print(f"near ties: {int(near.sum())} of {len(wrong)}")
    assert not wrong.any()


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("options", [EAGER, GRAPHS, FIXED_GRAPHS], ids=str)
def test_bfloat16_is_as_far_from_float32_as_the_model_itself_is(make: Make, folder: Path, options: Options) -> None:
    tokens = text(8, TOKENS)
    exact = theirs(folder, tokens)
    error, own = (
        float((logits - exact).norm() / exact.norm())
        for logits in (make(options, "bfloat16").whole(tokens), theirs(folder, tokens, torch.bfloat16))
    )
    print(f"relative errors: {error:.4f}, Hugging Face {own:.4f}")
    assert error < 2 * own


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("options", [FIXED, FIXED_GRAPHS], ids=str)
def test_deterministic_bfloat16_gives_the_same_bits_in_any_company_and_cut(make: Make, options: Options) -> None:
    bench, tokens = make(options, "bfloat16"), text(2, 200)
    wanted = bench.whole(tokens)
    for start, end in cuts(7, 200, 60):
        others = [bench.row(f"o{number}", start, text(number, end - start), 1) for number in range(start % 5)]
        rows = [*others, bench.row("s", start, tokens[start:end], end - start)]
        assert torch.equal(bench.engine.forward(rows)[len(others) :], wanted[start:end]), (start, end)
