"""A scenario is read from a preset, a file, what that builds on, and settings; what is wrong is told in one line."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsdq.errors import ConfigError
from dsdq.sim.scenario import Scenario, load_scenario, presets
from dsdq.sim.scenario.documents import read_document
from dsdq.sim.scenario.library import preset_file

Write = Callable[[str, str], str]
SMALL = "[devices.only]\ncount = 1\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file and return its path."""

    def _write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return _write


def refusal(name_or_path: str, *sets: str) -> str:
    """Return what is said of a scenario that is refused, behind its name."""
    with pytest.raises(ConfigError) as caught:
        load_scenario(name_or_path, sets)
    message = str(caught.value)
    assert message.isprintable()
    before, _, why = message.partition(": ")
    assert before.startswith("scenario ")
    return why


def test_toml_and_yaml_say_the_same(write: Write) -> None:
    toml = write("small.toml", "seed = 7\nwindow.policy = 'static:2'\n[devices.only]\ncount = 3\nlink = '4g'\n")
    told = "seed: 7\nwindow: {policy: 'static:2'}\ndevices:\n  only: {count: 3, link: 4g}\n"
    assert load_scenario(toml) == load_scenario(write("small.yaml", told)) == load_scenario(write("small.YML", told))


def test_a_file_that_gives_no_name_has_its_own(write: Write) -> None:
    assert load_scenario(write("My_Town.toml", SMALL)).name == "my-town"


def test_a_file_may_say_only_what_differs_from_its_base(write: Write) -> None:
    base = load_scenario("paper-20x600")
    scenario = load_scenario(write("far.toml", 'base = "paper-20x600"\n[devices.a40]\nlink.rtt_ms = 30\n'))
    assert scenario.name == "far"
    assert (scenario.devices["a40"].link.rtt_ms, scenario.devices["v100"].link.rtt_ms) == (30, 10)
    assert scenario.verifiers == base.verifiers


def test_a_base_may_be_a_file_beside_and_have_one_itself(write: Write) -> None:
    write("under.toml", 'base = "one-device"\nseed = 5\nduration_s = 9\n')
    scenario = load_scenario(write("over.toml", 'base = "under.toml"\nduration_s = 8\n'))
    assert (scenario.seed, scenario.duration_s, scenario.devices["only"].draft_ms) == (5, 8, 1)


def test_files_that_build_on_each_other_are_refused(write: Write) -> None:
    write("a.toml", 'base = "b.toml"\n')
    assert "at most 8 files" in refusal(write("b.toml", 'base = "a.toml"\n'))


def test_settings_come_before_what_the_file_says(write: Write) -> None:
    file = write("small.toml", "seed = 3\n" + SMALL)
    scenario = load_scenario(
        file, ["seed=7", "window.policy=static:2", "devices.only.link={rtt_ms = 1}", "about='x=y'"]
    )
    assert (scenario.seed, scenario.window.policy, scenario.about) == (7, "static:2", "x=y")
    assert scenario.devices["only"].link.rtt_ms == 1


def test_a_star_in_a_setting_is_every_class_of_devices() -> None:
    scenario = load_scenario("paper-20x600", ["devices.*.link.rtt_ms=30"])
    assert {devices.link.rtt_ms for devices in scenario.devices.values()} == {30}


def test_the_path_of_a_trace_is_from_the_file_that_names_it(write: Write, tmp_path: Path) -> None:
    text = SMALL + "arrivals.trace = 'asked.jsonl'\n[workloads.default.acceptance]\ntrace = 'right.jsonl'\n"
    scenario = load_scenario(write("small.toml", text))
    assert scenario.devices["only"].arrivals.trace == str(tmp_path / "asked.jsonl")
    assert scenario.workloads["default"].acceptance.trace == str(tmp_path / "right.jsonl")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("devices.*.link.rtt_ms=-3", "devices.a40.link.rtt_ms: expected a number >= 0, got -3 (and 1 more)"),
        ("verifiers.count=nan", "verifiers.count: expected a whole number, got nan"),
        ("slo.ttft_ms=inf", "slo.ttft_ms: expected a finite number, got inf"),
        ("verifiers.step_ms='30'", "verifiers.step_ms: expected a number, got '30'"),
        ("window.steered=1", "window.steered: expected true or false, got 1"),
        ("about=2026-11-29", "about: expected text, got a date"),
        ("slo=3", "slo: expected a table, got 3"),
        ("seed=0x1" + 50 * "0", "seed: expected a number < 9223372036854775808, got a number of 201 bits"),
        ("devices.a40.link.rtt=3", "did you mean rtt_ms?"),
        ("verifers.count=3", "verifers: expected a name that is known here, got 'verifers'; did you mean verifiers?"),
        ("devices.a4.count=3", "devices.a4: expected a name that is known here, got 'a4'; did you mean a40?"),
        ("nowhere.*.count=3", "nowhere.*.count: expected a table with names in it where the * is, got none"),
        ("seed", "setting: expected path.to.field=value, got 'seed'"),
        ("way=alone", "way: expected one of 'distributed', 'target-only', 'co-located' or 'dsi', got 'alone'"),
        ("window.policy=static:64", "window.policy: window policy static: expected WINDOW of 1 to 12, got '64'"),
        ("devices.a40.tenant=foo", "devices.a40.tenant: expected one of default, got 'foo'"),
        ("devices.a40.link=5h", "devices.a40.link.profile: expected one of 4g, 5g, campus-wifi"),
        ("verifiers.profile=a100-7", "got 'a100-7'; did you mean a100-7b?"),
        ("devices.a40.link.trace=[[0, 1], [3]]", "devices.a40.link.trace.1.1: expected a value, got nothing"),
        ("workloads.default.output.least=900", "workloads.default.output: expected least <= mean <= most, got 900"),
    ],
)
def test_a_mistake_is_told_with_the_field_what_was_expected_and_what_came(said: str, why: str) -> None:
    assert why in refusal("paper-20x600", said)


def test_what_cannot_be_read_is_told_in_one_line(write: Write, tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b"about = '\xe9'")
    assert "hundred-thousand" in refusal("nothing")
    assert "No such file" in refusal(str(tmp_path / "none.toml"))
    assert "Is a directory" in refusal(str(tmp_path / "folder.toml"))
    assert "expected UTF-8" in refusal(str(tmp_path / "latin.toml"))
    assert "expected a file that ends in .toml" in refusal(str(tmp_path / "scenario.json"))
    assert "null byte" in refusal("a\0.toml")
    assert "expected a table of fields, got a list" in refusal(write("list.yaml", "- 1\n"))
    assert "base: expected one of" in refusal(write("based.toml", "base = 'nothing'"))
    assert "base: expected a preset's name" in refusal(write("based.toml", "base = 3"))


def outcome(name_or_path: str, *sets: str) -> Scenario | str:
    """Return a scenario, or what is said of it; whatever else is raised fails the test."""
    try:
        return load_scenario(name_or_path, sets)
    except ConfigError as error:
        return str(error)


def is_one_line(message: str) -> bool:
    return message.isprintable() and "expected" in message and len(message) < 1500


class _Plain(yaml.SafeDumper):
    """Writes whatever it is given, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's
        return True


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        [10**400, -(1 << 70), math.nan, math.inf, -math.inf, 1e308, -0.0, "", "nan", "*", "4g", "a" * 5000]
    )
    | st.floats()
    | st.text(max_size=20)
    | st.just(dt.date(2026, 11, 29)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a good scenario's document in which some fields are others, more, or gone."""
    document = dict(read_document(preset_file(draw(st.sampled_from(sorted(presets()))))))
    for _ in range(draw(st.integers(1, 3))):
        table = document
        while True:
            inner = sorted(key for key, value in table.items() if isinstance(value, dict))
            if not inner or draw(st.integers(0, 3)) == 0:
                break
            table = table[draw(st.sampled_from(inner))]
        kind = draw(st.sampled_from(["change", "add", "drop"])) if table else "add"
        key = draw(st.text(max_size=12)) if kind == "add" else draw(st.sampled_from(sorted(table)))
        if kind == "drop":
            del table[key]
        else:
            table[key] = draw(JUNK)
    return document


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=mutated())
def test_any_document_is_a_scenario_or_a_line_that_names_a_field(document: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "mutated.yaml"
    file.write_text(yaml.dump(document, Dumper=_Plain))
    found = outcome(str(file))
    if isinstance(found, str):
        assert is_one_line(found), found
        _, _, why = found.partition(".yaml: ")
        odd = any(not key.isprintable() or not key or {".", ":"} & set(key) for key in document)
        assert odd or why.partition(":")[0].partition(".")[0] in {*Scenario.model_fields, *document}, found


@settings(max_examples=150)
@given(
    path=st.lists(st.sampled_from(["devices", "a40", "*", "link", "rtt_ms", "window", "policy", "x", ""]), max_size=6),
    value=st.text(max_size=20) | JUNK.map(repr),
)
def test_any_setting_gives_a_scenario_or_a_line(path: list[str], value: str) -> None:
    found = outcome("paper-20x600", f"{'.'.join(path)}={value}")
    assert isinstance(found, Scenario) or is_one_line(found), found


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 2000),
    gone=st.integers(0, 20),
    junk=st.binary(max_size=8),
    suffix=st.sampled_from(["toml", "yaml"]),
)
def test_any_bytes_give_a_scenario_or_a_line(at: int, gone: int, junk: bytes, suffix: str, tmp_path: Path) -> None:
    text = preset_file("failures").read_bytes()
    file = tmp_path / f"mutated.{suffix}"
    file.write_bytes(text[:at] + junk + text[at + gone :])
    found = outcome(str(file))
    assert isinstance(found, Scenario) or is_one_line(found), found
