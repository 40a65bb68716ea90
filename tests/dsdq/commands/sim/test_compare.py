"""`dsdq sim compare`."""

from __future__ import annotations

import pytest

from tests.dsdq.commands.sim.conftest import HERE, Simulate, read


def test_a_comparison_says_what_can_be_told_apart(dsdq: Simulate, fleet: str) -> None:
    variants = ("--variant", "near=", "--variant", "far=devices.*.link.rtt_ms=60", "--variant", "also=")
    said = dsdq("compare", fleet, *variants, "--seeds", "3", *HERE, "--json", "a.json")
    assert "far against near" in said
    assert "not told apart" in said
    assert max(map(len, said[said.index("far against") :].splitlines())) <= 80
    found = read("a.json")
    assert found["differences"]["far"]["e2e_ms"]["told_apart"]
    assert found["differences"]["also"]["e2e_ms"] == {
        "difference": 0,
        "interval": [0, 0],
        "ratio": 1,
        "ratio_interval": [1, 1],
        "told_apart": False,
    }


def test_a_name_is_not_taken_for_markup(dsdq: Simulate, fleet: str) -> None:
    said = dsdq("compare", fleet, "--variant", "[/]=", "--variant", "[red]b=", "--seeds", "2", *HERE)
    assert said.splitlines()[1].split() == ["[/]", "[red]b"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("small.toml", "--variant", "a="), "at least two"),
        (("small.toml", "--variant", "a=", "--variant", "b=", "--seeds", "1"), "--seeds"),
    ],
)
@pytest.mark.usefixtures("fleet")
def test_bad_input_is_one_line_and_exit_code_2(dsdq: Simulate, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in dsdq("compare", *arguments, code=2)
