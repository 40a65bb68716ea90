"""Profiles say where each figure is from; those of verifiers follow from datasheets; presets are whole scenarios."""

from __future__ import annotations

import pytest

from dsdq.sim.scenario import load_scenario, presets, profiles
from dsdq.sim.scenario.library import Kind

# GPUs; of each: GB/s, TFLOPS in bf16, GB. Model: parameters in 1e9, layers, width of keys in elements.
GPUS = {"a100": (2039, 312, 80), "h100": (3350, 989, 80), "a6000": (768, 154.8, 48)}
MODELS = {"70b": (70.6, 80, 8 * 128), "13b": (13.02, 40, 5120), "7b": (6.74, 32, 4096)}


@pytest.mark.parametrize("name", profiles())
def test_every_figure_of_a_profile_has_a_source(name: str) -> None:
    profile = profiles()[name]
    assert profile.source.keys() == profile.fields.keys()
    assert all(len(text) > 5 for text in profile.source.values())
    assert profile.about


@pytest.mark.parametrize("name", profiles())
def test_every_profile_fits_the_model_that_it_is_of(name: str) -> None:
    setting = {
        Kind.DEVICES: f"devices.only.profile={name}",
        Kind.VERIFIERS: f"verifiers.profile={name}",
        Kind.LINKS: f"devices.only.link={name}",
        Kind.WORKLOADS: f"workloads.default={name}",
    }[profiles()[name].kind]
    assert load_scenario("one-device", [setting])


@pytest.mark.parametrize(
    "name", [name for name, one in profiles().items() if one.kind is Kind.VERIFIERS if name != "lab"]
)
def test_a_verifiers_costs_follow_from_its_memory_and_arithmetic(name: str) -> None:
    gpu, model = name.split("-")
    (bandwidth, tflops, memory_gb), (billions, layers, width) = GPUS[gpu], MODELS[model]
    count = 4 if model == "70b" else 1
    weights_gb, read = 2 * billions, 0.8 * count * bandwidth
    all_reduces_ms = 2 * layers * 0.01 if count > 1 else 0
    token_bytes = layers * width * 2 * 2
    fields = profiles()[name].fields
    assert fields["step_ms"] == pytest.approx(1000 * weights_gb / read + all_reduces_ms, rel=0.01)
    assert fields["position_ms"] == pytest.approx(2 * billions / (0.5 * count * tflops), rel=0.01)
    assert fields["context_ms_per_1k"] == pytest.approx(token_bytes / 1000 / read, rel=0.01)
    assert fields["kv_tokens"] == pytest.approx((0.9 * count * memory_gb - weights_gb) * 1e9 / token_bytes, rel=0.01)
    assert fields["draft"]["step_ms"] == pytest.approx(2470 / (0.8 * bandwidth) + 1.5, rel=0.01)
    assert fields["draft"]["position_ms"] == pytest.approx(2 * 1.24 / (0.5 * tflops), rel=0.01)


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_whole_scenario_of_its_name(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.about == presets()[name]


def test_the_papers_presets_are_the_papers_setting() -> None:
    for name, devices in (("paper-20x600", 600), ("paper-20x1000", 1000)):
        scenario = load_scenario(name)
        assert sum(one.count for one in scenario.devices.values()) == devices
        assert {one.link.rtt_ms for one in scenario.devices.values()} == {10}
        assert scenario.verifiers.count == 20
        assert (scenario.window.policy, scenario.window.max_window, scenario.window.max_depth) == ("static:4", 12, 1)
        assert (scenario.routing.policy, scenario.batching.order, scenario.window.steered) == ("jsq", "fifo", False)


def test_the_flood_is_ten_times_as_much_as_the_other_tenant_asks() -> None:
    quiet, loud = (load_scenario("flood").devices[name].arrivals.per_s or 0 for name in ("quiet", "loud"))
    assert loud == 10 * quiet
