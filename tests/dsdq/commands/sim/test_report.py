"""`dsdq sim report`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsdq.commands.sim import sim
from dsdq.errors import ConfigError
from tests.dsdq.sim.report.results import ran, swept

RUNNER = CliRunner()


@pytest.fixture
def result(tmp_path: Path) -> Path:
    file = tmp_path / "result.json"
    file.write_text(ran(seeds=1).model_dump_json())
    return file


def refused(*arguments: str | Path) -> str:
    found = RUNNER.invoke(sim, ["report", *map(str, arguments)])
    assert isinstance(found.exception, ConfigError)
    assert "\n" not in str(found.exception)
    return str(found.exception)


def test_results_become_one_page(result: Path, tmp_path: Path) -> None:
    page = tmp_path / "both.html"
    found = RUNNER.invoke(sim, ["report", str(result), str(result), "--out", str(page)])
    assert (found.exit_code, found.output) == (0, f"{page}\n")
    assert page.read_text().count("<article") == 2


def test_what_is_no_result_is_refused(result: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert "No such file" in refused(tmp_path / "none.json", "--out", page)
    (other := tmp_path / "other.json").write_text("{")
    assert "expected the JSON of a result of dsdq sim, got at the document" in refused(other, "--out", page)
    document = json.loads(result.read_text())
    document["ways"]["distributed"]["figures"]["tokens_per_s"] = "many"
    other.write_text(json.dumps(document))
    assert "got at ways.distributed.figures.tokens_per_s" in refused(other, "--out", page)
    assert not page.exists()


def test_a_page_that_cannot_be_written_is_refused(result: Path, tmp_path: Path) -> None:
    assert "expected a file that ends in .html" in refused(result, "--out", tmp_path / "page.pdf")
    assert "expected a file in a folder that is there" in refused(result, "--out", tmp_path / "none" / "page.html")


def test_a_figure_that_no_sweep_has_is_refused(result: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert "--figure: expected a sweep among the results" in refused(result, "--figure", "tokens_per_s", "--out", page)
    grid = tmp_path / "sweep.json"
    grid.write_text(swept("verifiers.step_ms=20,30", seeds=1).model_dump_json())
    said = refused(result, grid, "--figure", "beauty", "--out", page)
    assert "--figure: expected one of" in said
    assert "got 'beauty'" in said
