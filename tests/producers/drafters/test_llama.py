"""Our own step of a Llama: transformers' logits, without a framework, and any position may be taken back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from dsdq.errors import ModelError
from dsdq.testing.tiny import VOCAB_SIZE, make_tokenizer
from producers.drafters.llama import LlamaDrafter, read_weights, serves

VARIANTS = {
    "grouped heads": {"num_key_value_heads": 2},
    "one kv head": {"num_key_value_heads": 1},
    "own head size": {"head_dim": 24},
    "tied embedding": {"tie_word_embeddings": True},
    "another rope base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
}


@pytest.fixture(params=VARIANTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    common = {
        "vocab_size": VOCAB_SIZE, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 600, "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**{**common, **VARIANTS[request.param]}))
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" in name:
                weights.uniform_(0.5, 1.5)
    model.save_pretrained(tmp_path)
    make_tokenizer(tmp_path)
    return tmp_path


def text(tokens: int) -> list[int]:
    source = random.Random(tokens)
    return [source.randrange(VOCAB_SIZE) for _ in range(tokens)]


def wanted(folder: Path, tokens: list[int]) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].numpy()


def test_logits_are_those_of_transformers_however_the_text_is_fed(folder: Path) -> None:
    assert serves(folder)
    tokens = text(300)  # beyond the first capacity of the cache
    logits = wanted(folder, tokens)
    stepper = LlamaDrafter(folder).stepper()
    np.testing.assert_allclose(stepper.feed(tokens[:40], 0), logits[39], rtol=0, atol=1e-4)
    for position in range(40, 60):
        np.testing.assert_allclose(stepper.feed([tokens[position]], position), logits[position], rtol=0, atol=1e-4)
    np.testing.assert_allclose(stepper.feed(tokens[60:], 60), logits[-1], rtol=0, atol=1e-4)


def test_what_is_taken_back_leaves_no_trace(folder: Path) -> None:
    tokens = text(50)
    stepper = LlamaDrafter(folder).stepper()
    stepper.feed(tokens[:30], 0)
    stepper.feed(text(15), 30)
    np.testing.assert_allclose(stepper.feed(tokens[30:], 30), wanted(folder, tokens)[-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_every_kind_are_widened_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import save_file

    values = torch.randn(8, 3).to(dtype)
    save_file({"w": values}, tmp_path / "model.safetensors")
    read = read_weights(tmp_path / "model.safetensors")["w"]
    assert np.array_equal(read, values.float().numpy())


def test_weights_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2, dtype=torch.int8)}, tmp_path / "ints.safetensors")
    with pytest.raises(ModelError, match="I8"):
        read_weights(tmp_path / "ints.safetensors")
    (tmp_path / "garbage.safetensors").write_bytes(b"garbage")
    with pytest.raises(ModelError, match="expected safetensors"):
        read_weights(tmp_path / "garbage.safetensors")


@pytest.mark.parametrize(
    "changed",
    [{"model_type": "qwen2"}, {"attention_bias": True}, {"mlp_bias": True}, {"hidden_act": "gelu"},
     {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}},
     {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 4.0}}],
    ids=str,
)  # fmt: skip
def test_what_is_computed_otherwise_is_left_to_transformers(
    tiny: Callable[[str], Path], tmp_path: Path, changed: dict[str, object]
) -> None:
    config = json.loads((tiny("llama") / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert not serves(tmp_path)
