"""Scenarios that differ from one in what is compared, and in nothing else."""

from __future__ import annotations

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.scenario.library import profiles
from dsdq.sim.scenario.model import Arrivals
from dsdq.sim.variations import assigned, parts, seeded, varied, with_acceptance, with_count, with_devices, with_rtt
from tests.dsdq.sim.small import SMALL, small


def test_a_setting_changes_its_field_alone() -> None:
    found = varied(SMALL, {"devices.*.link.rtt_ms": 30.0}).scenario
    assert found.devices["phones"].link.rtt_ms == 30
    assert with_rtt(found, 20.0) == SMALL


def test_a_profile_is_a_setting_like_any_other() -> None:
    found = varied(SMALL, {"verifiers.profile": "a100-70b", "workloads.default": "gsm8k"}).scenario
    assert found.verifiers.step_ms == profiles()["a100-70b"].fields["step_ms"]
    assert found.workloads["default"].output.mean == profiles()["gsm8k"].fields["output"]["mean"]
    with pytest.raises(ConfigError, match=r"verifiers\.profile: expected one of .*a100-70b"):
        varied(SMALL, {"verifiers.profile": "a101"})


def test_a_setting_that_makes_no_scenario_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"window\.policy: .*statics"):
        varied(SMALL, {"window.policy": "statics"})


def test_seeds_count_up_from_the_scenarios_own() -> None:
    assert seeded(small(seed=5), 3) == [small(seed=5), small(seed=6), small(seed=7)]


def test_a_round_trip_replaces_one_that_changes() -> None:
    changing = small(devices__phones__link__trace="[[0.0, 10.0], [5.0, 90.0]]")
    assert with_rtt(changing, 20.0) == SMALL


def test_acceptance_replaces_what_was_by_place() -> None:
    found = with_acceptance(small(workloads__default__acceptance__by_place="[0.9, 0.5]"), 0.6)
    assert found.workloads["default"].acceptance.mean == 0.6
    assert found.workloads["default"].acceptance.by_place is None


def test_acceptance_is_that_of_verifiers_that_draft_too() -> None:
    given = small(workloads__default__own_acceptance__mean=0.9)
    assert with_acceptance(given, 0.6) == with_acceptance(SMALL, 0.6)


def test_verifiers_are_counted() -> None:
    assert with_count(SMALL, 4) == small(verifiers__count=4)


def test_devices_are_scaled_in_proportion_and_ask_as_often() -> None:
    phones = small(devices__phones__arrivals="{per_device_per_s = 0.5}").devices["phones"]
    more = phones.model_copy(update={"count": 6, "arrivals": Arrivals(per_s=3.0)})
    two = SMALL.model_copy(update={"devices": {"phones": phones, "more": more}})
    found = with_devices(two, 30).devices
    assert {name: one.count for name, one in found.items()} == {"phones": 10, "more": 20}
    assert found["more"].arrivals.per_s == 10
    assert found["phones"].arrivals.per_device_per_s == 0.5
    with pytest.raises(ConfigError, match="--devices"):
        with_devices(two, 1)


@pytest.mark.parametrize(("classes", "count", "expected"), [
    ([100] * 10, 14, {1, 2}),
    ([1, 1000], 2, {1}),
    ([1000, 1, 1], 3, {1}),
    ([500, 500, 500], 1500, {500}),
])  # fmt: skip
def test_no_class_has_more_than_its_part(classes: list[int], count: int, expected: set[int]) -> None:
    phones = SMALL.devices["phones"]
    devices = {f"class-{number}": phones.model_copy(update={"count": one}) for number, one in enumerate(classes)}
    found = with_devices(SMALL.model_copy(update={"devices": devices}), count).devices
    assert sum(one.count for one in found.values()) == count
    assert {one.count for one in found.values()} == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", ["a"]), ("a,b", ["a", "b"]), ("[1, 2],{x = 1, y = 2},3", ["[1, 2]", "{x = 1, y = 2}", "3"]), ("", [""])],
)
def test_commas_within_brackets_part_nothing(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


@pytest.mark.parametrize("texts", [["a"], ["=1"], ["a="], ["a=1", "a=2"]])
def test_what_is_no_assignment_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="--vary: expected"):
        assigned("--vary", texts)
