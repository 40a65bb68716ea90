"""`dsdq sim plan`."""

from __future__ import annotations

import re

import pytest

from dsdq.sim.baselines import ASSUMED_DRAFT
from dsdq.sim.plan import KEPT_WINDOW
from tests.dsdq.commands.sim.conftest import HERE, Simulate, read


def test_a_plan_answers_with_numbers(dsdq: Simulate, fleet: str) -> None:
    options = ("--set", "duration_s=1", "--set", "verifiers.per_hour=2", "--seeds", "1", "--devices", "2", *HERE)
    said = dsdq("plan", fleet, *options, "--json", "a.json")
    found = read("a.json")
    assert {name: one["count"] for name, one in found["verifiers"].items()} == {
        "distributed": 1,
        "target-only": 1,
        "co-located": 1,
    }
    assert found["scenario"]["devices"]["phones"]["count"] == 2
    end = found["break_even"]["rtt_ms"]["target-only"]
    assert 5 < end["value"] < 40
    assert f"than target-only: up to a round trip of {end['value']:g} ms (EUR" in said
    assert re.search(r"co-located: (nowhere|up to)", said)
    assert re.search(r"distributed +1 +100\.0% ", said)
    assert f"co-located: {KEPT_WINDOW}; {ASSUMED_DRAFT}\n" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("small.toml", "--set", "way=target-only"), "way: expected distributed"),
        (("small.toml", "--json", "none/a.json"), "--json"),
    ],
)
@pytest.mark.usefixtures("fleet")
def test_bad_input_is_one_line_and_exit_code_2(dsdq: Simulate, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in dsdq("plan", *arguments, code=2)
