"""`dsdq sim plot`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.dsdq.commands.sim.conftest import HERE, Simulate, read


def test_a_result_is_drawn(dsdq: Simulate, fleet: str) -> None:
    dsdq("run", fleet, "--no-baselines", *HERE, "--json", "a.json")
    assert dsdq("plot", "a.json").strip() == "a.png"
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_a_result_that_is_not_what_was_expected_is_told_by_its_place(dsdq: Simulate, fleet: str) -> None:
    dsdq("run", fleet, "--no-baselines", *HERE, "--json", "a.json")
    found = read("a.json")
    found["ways"]["distributed"]["figures"]["tokens_per_s"] = "many"
    Path("a.json").write_text(json.dumps(found))
    assert "result a.json: expected the JSON of a result of dsdq sim, got at ways.distributed.figures.tok" in dsdq(
        "plot", "a.json", code=2
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nowhere.json",), "result nowhere.json: expected a file that can be read"),
        (("small.toml",), "result small.toml: expected the JSON of a result"),
        ((".",), "result .: expected a file that can be read"),
    ],
)
@pytest.mark.usefixtures("fleet")
def test_bad_input_is_one_line_and_exit_code_2(dsdq: Simulate, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in dsdq("plot", *arguments, code=2)


@pytest.mark.usefixtures("fleet", "bare")
def test_what_is_not_installed_is_told_before_anything_is_simulated(dsdq: Simulate) -> None:
    assert "install dsdq[sim]" in dsdq("plot", "small.toml", code=2)
