"""What cannot be loaded is one ModelError with one sentence, before time and memory are spent on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoConfig

from dsdq.errors import ModelError
from dsdq.models import memory, quantization
from dsdq.models.loading import Placement, check_fit, check_spread, skeleton
from dsdq.models.target import load_target
from dsdq.testing.tiny import make_tiny

MIB = 1 << 20


def changed(folder: Path, **fields: object) -> str:
    """Make a tiny model and change its configuration."""
    file = make_tiny(folder) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    return str(folder)


def refusal(name: str, **options: object) -> str:
    with pytest.raises(ModelError) as caught:
        load_target(name, **options)  # type: ignore[arg-type]
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_hub_name_that_is_neither_online_nor_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "couldn't find them in the cached files" in refusal("organisation/no-such-model")


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"model_type": "no-such-architecture"}'])
def test_a_configuration_that_says_nothing(tmp_path: Path, content: str) -> None:
    (make_tiny(tmp_path) / "config.json").write_text(content)
    assert "cannot be loaded" in refusal(str(tmp_path))


def test_a_configuration_with_a_field_of_the_wrong_kind_is_refused_by_the_fields_name(tmp_path: Path) -> None:
    assert "hidden_size" in refusal(changed(tmp_path, hidden_size="many"))


def test_weights_that_end_early(tmp_path: Path) -> None:
    file = make_tiny(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert "cannot be loaded" in refusal(str(tmp_path))


def test_a_model_that_is_no_language_model(tmp_path: Path) -> None:
    assert "ViTConfig" in refusal(changed(tmp_path, model_type="vit"))


def test_code_that_a_repository_brings_is_never_run(tmp_path: Path) -> None:
    name = changed(
        tmp_path, model_type="theirs", auto_map={"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M"}
    )
    ran = tmp_path / "ran"
    (tmp_path / "theirs.py").write_text(f"open({str(ran)!r}, 'w')")
    assert "never run here" in refusal(name)
    assert not ran.exists()


def test_weights_that_do_not_fit_are_refused_with_both_figures(tmp_path: Path) -> None:
    said = refusal(changed(tmp_path, num_hidden_layers=96, hidden_size=16384, intermediate_size=65536))
    assert "not enough memory" in said
    assert said.count("GiB") == 2


@pytest.mark.parametrize(
    ("dtype", "kind", "ranks", "least"),
    [("float32", "none", 1, 0.99), ("bfloat16", "none", 1, 0.49), ("float32", "none", 2, 0.49)],
)
def test_room_is_asked_for_by_dtype_and_rank(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, dtype: str, kind: str, ranks: int, least: float
) -> None:
    folder = tiny("llama")
    stored = (folder / "model.safetensors").stat().st_size  # float32, and a small header
    shapes = skeleton("m", AutoConfig.from_pretrained(folder))
    placement = Placement(torch.device("cpu"), getattr(torch, dtype), kind, "none", ranks)
    monkeypatch.setattr(memory, "free_main_memory", lambda: int(least * stored * 1.02))
    check_fit("m", shapes, kind, placement)
    monkeypatch.setattr(memory, "free_main_memory", lambda: int(least * stored * 0.97))
    with pytest.raises(ModelError, match="not enough memory"):
        check_fit("m", shapes, kind, placement)


def test_quantised_weights_need_less_room(tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = skeleton("m", AutoConfig.from_pretrained(tiny("llama")))
    rows = sum(layer.weight.numel() for layer in (shapes.get_input_embeddings(), shapes.get_output_embeddings()))
    norms = sum(p.numel() for p in shapes.parameters() if p.dim() == 1)
    linears = sum(p.numel() for p in shapes.parameters()) - rows - norms
    placement = Placement(torch.device("cpu"), torch.float32, "torchao-int8", "none", 1)
    monkeypatch.setattr(memory, "free_main_memory", lambda: 4 * (rows + norms) + linears)
    check_fit("m", shapes, "torchao-int8", placement)
    with pytest.raises(ModelError, match="not enough memory"):
        check_fit("m", shapes, "none", placement)


def test_free_memory_is_the_containers_where_that_is_less(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:   {100 * 1024} kB\n")
    for name, content in (("max", 60 * MIB), ("current", 40 * MIB), ("stat", f"anon 1\ninactive_file {15 * MIB}\n")):
        (tmp_path / f"memory.{name}").write_text(str(content))
    assert memory.free_main_memory(tmp_path / "meminfo", tmp_path) == 35 * MIB
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_main_memory(tmp_path / "meminfo", tmp_path) == 100 * MIB
    assert memory.free_main_memory(tmp_path / "meminfo", tmp_path / "none") == 100 * MIB


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"quantization": "int3"}, "torchao-int8"),
        ({"device_map": "zigzag"}, "balanced"),
        ({"device_map": "auto"}, "expected device 'cuda'"),
        ({"device_map": "auto", "ranks": 2}, "expected 'none' under tensor parallelism"),
        ({"quantization": "none", "ranks": 2}, "start them with torchrun"),
    ],
)
def test_options_that_do_not_go_together_here(
    tiny: Callable[[str], Path], options: dict[str, object], expected: str
) -> None:
    assert expected in refusal(str(tiny("llama")), **options)


@pytest.mark.parametrize("kind", [kind for kind in quantization.QUANTIZATIONS if kind != "none"])
def test_a_quantisation_without_its_package_names_the_package(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda _: None)
    assert "not installed; install 'dsdq[torch,quantized]'" in refusal(str(tiny("llama")), quantization=kind)


@pytest.mark.parametrize(
    ("method", "package"), [("gptq", "optimum"), ("awq", "gptqmodel"), ("compressed-tensors", "compressed-tensors")]
)
def test_a_quantised_model_without_its_package_names_the_package(tmp_path: Path, method: str, package: str) -> None:
    if find_spec(package.replace("-", "_")) is not None:
        pytest.skip(f"{package} is installed")
    assert package in refusal(changed(tmp_path, quantization_config={"quant_method": method, "bits": 4}))


@pytest.mark.parametrize("settings", [{"quant_method": "of-tomorrow"}, {"bits": 4}])
def test_a_quantisation_that_transformers_would_pass_over_is_refused(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    assert "transformers cannot load" in refusal(changed(tmp_path, quantization_config=settings))


def test_weights_are_quantised_once() -> None:
    own = AutoConfig.for_model("llama", quantization_config={"quant_method": "fp8"})
    assert quantization.settle("m", own, "none") == "fp8"
    with pytest.raises(ModelError, match="already quantized"):
        quantization.settle("m", own, "bnb-8bit")


def test_outliers_are_never_chosen_by_the_whole_batch() -> None:
    settings = {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 6.0}
    config = AutoConfig.for_model("llama", quantization_config=settings)
    assert quantization.settle("m", config, "none") == "bitsandbytes"
    assert quantization.own_settings(config) == {**settings, "llm_int8_threshold": 0.0}


def test_heads_that_the_ranks_cannot_share(tiny: Callable[[str], Path]) -> None:
    shapes = skeleton("m", AutoConfig.from_pretrained(tiny("llama")))  # 4 heads, 2 key-value heads
    with pytest.raises(ModelError, match="2 key-value heads"):
        check_fit("m", shapes, "none", Placement(torch.device("cpu"), torch.float32, "none", "none", 4))


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_a_layer_left_outside_the_gpus_is_an_error(place: str) -> None:
    placement = Placement(torch.device("cuda"), torch.float16, "none", "auto", 1)
    check_spread("m", SimpleNamespace(hf_device_map={"a": 0, "b": 1}), placement)
    with pytest.raises(ModelError, match="not enough memory"):
        check_spread("m", SimpleNamespace(hf_device_map={"a": 0, "b": place}), placement)


@pytest.mark.parametrize("kind", ["torchao-int8", "bnb-8bit"])
def test_a_quantised_target_says_so_in_its_numerics(tiny: Callable[[str], Path], kind: str) -> None:
    pytest.importorskip("torchao" if kind == "torchao-int8" else "bitsandbytes")
    assert load_target(str(tiny("llama")), quantization=kind).numerics.endswith(f"/block64/{kind}")
