"""Pictures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsdq.errors import ConfigError
from dsdq.sim import plot
from dsdq.sim.export import jsonable
from dsdq.sim.replications import replicate, result, way
from dsdq.sim.runners import here
from dsdq.sim.sweep import grid, swept
from dsdq.sim.variations import Variant, assigned, varied
from tests.dsdq.sim.small import SMALL, small

PNG = b"\x89PNG"


def ran(seeds: int) -> dict[str, Any]:
    scenarios = {"distributed": SMALL, "target-only": small(way="target-only")}
    found = replicate(here, scenarios, seeds)
    ways = {name: way(Variant({}, one), found[name]) for name, one in scenarios.items()}
    document: dict[str, Any] = jsonable(result("run", SMALL, seeds, ways=ways))
    return document


@pytest.mark.parametrize("seeds", [1, 2])
def test_ways_are_drawn_side_by_side(tmp_path: Path, seeds: int) -> None:
    file = tmp_path / "run.png"
    plot.draw(ran(seeds), file)
    assert file.read_bytes().startswith(PNG)
    assert file.stat().st_size > 20_000


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (
            ["window.policy=static:1,static:2", "devices.*.link.rtt_ms=10,50"],
            ["devices.*.link.rtt_ms", "policy=static:2"],
        ),
        (["window.policy=static:1,target-only"], ["window.policy", "target-only"]),
        ([], ["TTFT, ms", "share of verdicts"]),
    ],
)
def test_a_sweep_is_drawn_over_the_numbers_that_varied(tmp_path: Path, vary: list[str], words: list[str]) -> None:
    cells = grid(lambda settings: varied(SMALL, assigned("--set", settings)).scenario, vary, 1)
    file = tmp_path / "sweep.svg"
    plot.draw(jsonable(swept(here, SMALL, cells, 1, tmp_path / "cells.jsonl")), file)
    picture = file.read_text()
    assert [word for word in words if f"<!-- {word} -->" not in picture] == []


@pytest.mark.parametrize("broken", [{}, {"kind": "run"}, {"kind": "sweep", "vary": {}, "ways": {}}])
def test_what_is_no_result_is_told(tmp_path: Path, broken: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected a result of dsdq sim"):
        plot.draw(broken, tmp_path / "run.png")


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--out"):
        plot.draw(ran(1), tmp_path / "run.nonsense")
