from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dsdq.errors import DsdqError
from dsdq.models.tokenizer import Tokenizer
from producers.drafters import load_drafter
from producers.drafters.hugging_face import HuggingFaceDrafter
from producers.drafters.llama import LlamaDrafter


def test_a_plain_llama_runs_on_our_own_step_and_everything_else_on_transformers(tiny: Callable[[str], Path]) -> None:
    assert isinstance(load_drafter(str(tiny("llama"))), LlamaDrafter)
    assert isinstance(load_drafter(f"transformers:{tiny('llama')}"), HuggingFaceDrafter)
    assert isinstance(load_drafter(str(tiny("gpt2"))), HuggingFaceDrafter)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_model_brings_its_tokenizers_fingerprint(tiny: Callable[[str], Path], architecture: str) -> None:
    folder = tiny(architecture)
    assert load_drafter(str(folder)).fingerprint == Tokenizer.load(folder).fingerprint


@pytest.mark.parametrize("name", ["none", "ngram", "random"])
def test_a_drafter_without_a_model_fits_every_target(name: str) -> None:
    assert load_drafter(name).fingerprint == ""


@pytest.mark.parametrize("name", ["no/such/path/at/all", "builtin/other", "transformers:no/such/path/at/all"])
def test_a_drafter_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(DsdqError, match=name.rsplit("/", 1)[1]):
        load_drafter(name)
