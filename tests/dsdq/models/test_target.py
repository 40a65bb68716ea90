from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from dsdq.errors import ModelError
from dsdq.models.target import check_architecture, load_target
from dsdq.testing.tiny import CONTEXT_TOKENS, VOCAB_SIZE, make_tiny


def test_a_target_comes_with_the_facts_that_sessions_need(tiny: Callable[[str], Path]) -> None:
    target = load_target(str(tiny("llama")))
    assert (target.vocab_size, target.context_tokens, target.eos_ids) == (VOCAB_SIZE, CONTEXT_TOKENS, (1,))
    assert target.numerics.startswith("float32/cpu-")


def test_the_revision_tells_apart_models_that_differ_in_weights_alone(tmp_path: Path) -> None:
    revisions = [load_target(str(make_tiny(tmp_path / str(n), seed=seed))).revision for n, seed in enumerate((0, 0, 1))]
    assert revisions[0] == revisions[1]
    assert revisions[0] != revisions[2]


@pytest.mark.parametrize(("option", "value"), [("device", "toaster"), ("device", "cuda:99"), ("dtype", "int3")])
def test_a_device_or_dtype_that_is_not_there_is_refused(tiny: Callable[[str], Path], option: str, value: str) -> None:
    with pytest.raises(ModelError, match=value):
        load_target(str(tiny("llama")), **{option: value})


def test_missing_weights_are_an_error_not_a_random_layer(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path)
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers += 1
    config.save_pretrained(folder)
    with pytest.raises(ModelError, match="missing or misshapen"):
        load_target(str(folder))


def test_an_architecture_that_cannot_be_served_right_is_refused_by_name() -> None:
    config = AutoConfig.for_model(
        "mamba", hidden_size=8, num_hidden_layers=1, vocab_size=16, state_size=4, intermediate_size=16
    )
    with pytest.raises(ModelError, match="MambaForCausalLM"):
        check_architecture("m", AutoModelForCausalLM.from_config(config))


def test_a_folder_without_weights_says_what_is_missing(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_target(str(folder))
