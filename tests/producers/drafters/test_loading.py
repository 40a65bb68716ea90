from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsdq.contract import Contract
from dsdq.errors import DsdqError, ModelError
from dsdq.models.tokenizer import Tokenizer
from producers.drafters import load_drafter
from producers.drafters.hugging_face import HuggingFaceDrafter
from producers.drafters.llama import LlamaDrafter

CONTRACT = Contract("t", "p", "s", "m", "f")
TOKENIZER = Tokenizer.load("builtin/target")


def test_a_plain_llama_runs_on_our_own_step_and_everything_else_on_transformers(tiny: Callable[[str], Path]) -> None:
    assert isinstance(load_drafter(str(tiny("llama"))), LlamaDrafter)
    assert isinstance(load_drafter(f"transformers:{tiny('llama')}"), HuggingFaceDrafter)
    assert isinstance(load_drafter(str(tiny("gpt2"))), HuggingFaceDrafter)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_model_brings_its_tokenizers_fingerprint(tiny: Callable[[str], Path], architecture: str) -> None:
    folder = tiny(architecture)
    assert load_drafter(str(folder)).fingerprint == Tokenizer.load(folder).fingerprint


def test_several_threads_may_load_at_once() -> None:
    with ThreadPoolExecutor(3) as threads:
        loaded = list(threads.map(load_drafter, ["transformers:builtin/draft"] * 3))
    assert len({one.fingerprint for one in loaded}) == 1


@pytest.mark.parametrize("name", ["none", "ngram", "random"])
def test_a_drafter_without_a_model_fits_every_target(name: str) -> None:
    assert load_drafter(name).fingerprint == ""


@pytest.mark.parametrize("name", ["no/such/path/at/all", "builtin/other", "transformers:no/such/path/at/all"])
def test_a_drafter_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(DsdqError, match=name.rsplit("/", 1)[1]):
        load_drafter(name)


@pytest.mark.parametrize(
    "changed", [{"rms_norm_eps": "small"}, {"num_hidden_layers": 9}, {"hidden_size": 63}, {"num_attention_heads": 3}]
)
def test_a_draft_whose_configuration_does_not_fit_its_weights_says_so(
    tiny: Callable[[str], Path], tmp_path: Path, changed: dict[str, object]
) -> None:
    shutil.copytree(tiny("llama"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "head_dim": None, **changed}))
    with pytest.raises(ModelError):
        load_drafter(str(tmp_path)).start(CONTRACT, TOKENIZER).propose([5, 6, 7], 2)
