"""The pair that dsdq ships: small, loadable with transformers alone, and as good as its card says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dsdq.commands.models import read_facts
from dsdq.models.names import BUILTIN_NAMES, resolve
from dsdq.models.prompts import builtin_prompts
from dsdq.models.tokenizer import Tokenizer

FOLDER = Path(resolve("builtin/target")).parent
MOST_BYTES = 40_000_000


def test_the_pair_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < MOST_BYTES


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_each_model_loads_with_transformers_alone_and_its_facts_are_true(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(resolve(name), dtype=torch.float32)
    facts = read_facts()[name.removeprefix("builtin/")]
    assert sum(parameter.numel() for parameter in model.parameters()) == facts["parameters"]
    assert (Path(resolve(name)) / "model.safetensors").stat().st_size == facts["bytes"]
    assert model.config.model_type == "llama"


def test_the_draft_is_ten_times_smaller_eight_times_faster_and_agrees_often_enough() -> None:
    facts = read_facts()
    assert facts["target"]["parameters"] >= 10 * facts["draft"]["parameters"]
    times = facts["milliseconds_per_token"]
    assert times["target_hugging_face"] >= 8 * times["draft_step"]
    assert 0.65 <= facts["acceptance"]["t1"] <= 0.85


def test_both_have_one_tokenizer_with_a_chat_template() -> None:
    assert len({Tokenizer.load(name).fingerprint for name in BUILTIN_NAMES}) == 1
    tokenizer = AutoTokenizer.from_pretrained(resolve("builtin/target"))
    said = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], tokenize=False, add_generation_prompt=True
    )
    assert said == "<s># user: hello\n# assistant:\n"


def test_prompts_fit_and_differ() -> None:
    prompts = builtin_prompts()
    tokenizer = Tokenizer.load("builtin/target")
    assert len(prompts) == len(set(prompts)) == 64
    assert all(1 <= len(tokenizer.encode(prompt)) <= 60 for prompt in prompts)


@pytest.mark.parametrize("file", ["MODEL_CARD.md", "LICENSE.psf"])
def test_the_pair_comes_with_its_card_and_the_licence_of_its_data(file: str) -> None:
    assert (FOLDER / file).stat().st_size > 1000
