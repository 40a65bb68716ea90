"""What is given lies upon what a base or a profile gives; alternatives replace each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.scenario import load_scenario
from dsdq.sim.scenario.layers import laid_upon, with_profiles, with_settings
from dsdq.sim.scenario.library import profiles
from dsdq.sim.variations import varied


def test_tables_are_merged_field_by_field_and_lists_replaced() -> None:
    under = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert laid_upon(under, {"a": {"y": [3]}, "c": 2}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert under == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_what_is_null_is_not_given() -> None:
    assert laid_upon({"a": 1}, {"a": None, "b": {"c": None}}) == {"a": 1, "b": {}}


def test_other_arrivals_replace_those_that_were() -> None:
    under = {"devices": {"a": {"arrivals": {"per_s": 3}}}}
    assert with_settings(under, ["devices.a.arrivals.think_s=1"]) == {"devices": {"a": {"arrivals": {"think_s": 1}}}}


def test_acceptance_by_place_or_from_a_trace_replaces_what_was_said_of_it() -> None:
    under = {"workloads": {"a": {"output": {"mean": 9}, "acceptance": {"mean": 0.7, "telling": 0.2}}}}
    for name, text, value in (("trace", "x.jsonl", "x.jsonl"), ("by_place", "[0.9, 0.5]", [0.9, 0.5])):
        full = with_settings(under, [f"workloads.a.acceptance.{name}={text}"])
        assert full["workloads"]["a"] == {"output": {"mean": 9}, "acceptance": {name: value}}
    full = with_settings(under, ["workloads.a.acceptance.mean=0.5"])
    assert full["workloads"]["a"]["acceptance"] == {"mean": 0.5, "telling": 0.2}


def test_a_profile_lies_beneath_what_is_given() -> None:
    full = with_profiles({"devices": {"a": {"profile": "phone", "draft_ms": 5}}, "verifiers": {"profile": "lab"}})
    assert full["devices"]["a"] == {**profiles()["phone"].fields, "profile": "phone", "draft_ms": 5}
    assert full["verifiers"]["step_ms"] == 30


def test_a_link_or_a_workload_may_be_a_profiles_name_alone() -> None:
    full = with_profiles({"devices": {"a": {"link": "4g"}}, "workloads": {"b": "chat"}})
    assert full["devices"]["a"]["link"] == profiles()["4g"].fields
    assert full["workloads"]["b"] == profiles()["chat"].fields


def test_fields_may_be_laid_upon_a_profiles_name() -> None:
    named = {"devices": {"a": {"link": "4g"}}}
    full = with_profiles(with_settings(named, ["devices.a.link.rtt_ms=100"]))
    assert full["devices"]["a"]["link"] == {**profiles()["4g"].fields, "rtt_ms": 100}
    assert full == with_profiles({"devices": {"a": {"link": {"profile": "4g", "rtt_ms": 100}}}})


def test_a_profiles_name_replaces_fields_that_were() -> None:
    base = {"devices": {"a": {"link": {"rtt_ms": 100}}}}
    full = with_profiles(laid_upon(base, {"devices": {"a": {"link": "4g"}}}))
    assert full["devices"]["a"]["link"] == profiles()["4g"].fields


def test_the_last_of_two_settings_of_a_field_holds() -> None:
    assert with_settings({}, ["seed=1", "seed=2"]) == {"seed": 2}


def test_a_round_trip_replaces_one_that_changes_and_is_replaced_by_one() -> None:
    trace = [[0, 10], [5, 90]]
    changing = {"devices": {"a": {"link": {"trace": trace, "loss": 0.1}}}}
    steady = {"devices": {"a": {"link": {"rtt_ms": 20, "loss": 0.1}}}}
    assert with_settings(changing, ["devices.a.link.rtt_ms=20"]) == steady
    assert with_settings(steady, [f"devices.a.link.trace={trace}"]) == changing


def test_a_trace_replaces_the_round_trip_of_a_links_profile() -> None:
    full = with_profiles(with_settings({"devices": {"a": {"link": "4g"}}}, ["devices.a.link.trace=[[0, 10]]"]))
    expected = {name: value for name, value in profiles()["4g"].fields.items() if name != "rtt_ms"}
    assert full["devices"]["a"]["link"] == {**expected, "trace": [[0, 10]]}


def test_a_mean_acceptance_replaces_one_by_place_or_from_a_trace() -> None:
    for instead in ({"by_place": [0.9, 0.5]}, {"trace": "x.jsonl"}):
        full = with_settings({"workloads": {"a": {"acceptance": instead}}}, ["workloads.a.acceptance.mean=0.5"])
        assert full["workloads"]["a"]["acceptance"] == {"mean": 0.5}


def test_no_trace_leaves_the_round_trip_as_it_is() -> None:
    steady = {"devices": {"a": {"link": {"rtt_ms": 20}}}}
    assert with_settings(steady, ["devices.a.link.trace=[]"])["devices"]["a"]["link"] == {"rtt_ms": 20, "trace": []}
    changing = {"devices": {"a": {"link": {"trace": [[0, 10]]}}}}
    assert with_settings(changing, ["devices.a.link.trace=[]"])["devices"]["a"]["link"] == {"trace": []}


@pytest.mark.parametrize("setting", ["devices.*.link=fibre", "devices.*.link.profile=fibre"])
def test_a_links_profile_is_all_that_is_said_of_it(setting: str) -> None:
    for link in ("4g", {"profile": "4g", "loss": 0.2}, {"trace": [[0, 500]], "drops_per_hour": 60.0}):
        full = with_profiles(with_settings({"devices": {"a": {"link": link}}}, [setting]))
        assert full["devices"]["a"]["link"] == profiles()["fibre"].fields


@pytest.mark.parametrize("setting", ["verifiers.profile=lab", "devices.*.profile=edge-a40", "devices.*.profile=laptop"])
def test_another_profile_makes_the_same_of_a_preset_and_of_all_that_it_says(setting: str) -> None:
    whole = load_scenario("phones-4g")
    name, value = setting.split("=")
    assert varied(whole, {name: value}).scenario == load_scenario("phones-4g", [setting])


def test_a_profile_leaves_alone_what_neither_it_nor_the_one_before_says() -> None:
    table = {"profile": "a100-70b", "count": 3, "step_ms": 1.0, "per_hour": 99.0}
    full = with_settings({"verifiers": table}, ["verifiers.profile=lab"])
    assert full["verifiers"] == {"profile": "lab", "count": 3, "per_hour": 99.0}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("workloads.cod.acceptance.mean=0.1", r"workloads\.cod: expected one that devices have \(chat\), got another"),
        ("workloads.cod=gsm8k", r"workloads\.cod: expected one that devices have"),
        ("tenants.nobody.weight=3", r"tenants\.nobody: expected one that devices have \(a, b\), got another"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(setting: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(
        "[workloads]\nchat = 'chat'\n[tenants]\na = {}\nb = {}\n"
        + "".join(f"[devices.{one}]\ncount = 1\nworkload = 'chat'\ntenant = '{one}'\n" for one in "ab")
    )
    assert load_scenario(str(tmp_path / "two.toml"), ["tenants.b.weight=3", "workloads.*.acceptance.mean=0.5"])
    with pytest.raises(ConfigError, match=says):
        load_scenario(str(tmp_path / "two.toml"), [setting])
