"""A scenario that is written is the same when it is read again, whatever becomes of presets and profiles."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dsdq.sim.scenario import load_scenario, presets, to_toml


@pytest.mark.parametrize("name", presets())
def test_a_run_can_be_repeated_from_its_file(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name, ["slo.tpot_ms=1e-7", "devices.*.link.trace=[[0, 10], [5.5, 20]]"])
    (tmp_path / "again.toml").write_text(to_toml(scenario))
    assert load_scenario(str(tmp_path / "again.toml")) == scenario


def test_every_field_is_written_also_those_that_were_not_given() -> None:
    document = tomllib.loads(to_toml(load_scenario("one-device")))
    assert document["verifiers"]["lease_ms"] == 2000
    assert document["devices"]["only"]["link"]["resend_ms"] == 200


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    scenario = load_scenario("one-device").model_copy(update={"about": 'a "quoted" \\ name of é and 😀'})
    (tmp_path / "again.toml").write_text(to_toml(scenario), encoding="utf-8")
    assert load_scenario(str(tmp_path / "again.toml")).about == scenario.about
