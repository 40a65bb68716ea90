"""Results as files say the same in every form."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from dsdq import extras
from dsdq.errors import ConfigError
from dsdq.sim import export

ROWS = [{"way": "a", "seed": 1, "x": 0.5, "left": None}, {"way": "b", "seed": 2, "x": math.nan, "policy": "static:4"}]


def test_json_has_null_for_what_is_no_number(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    export.write_json("--json", file, {"x": math.nan, "y": [1.5, (math.inf, 2)]})
    assert json.loads(file.read_text()) == {"x": None, "y": [1.5, [None, 2]]}


@pytest.mark.parametrize("suffix", export.TABLES)
def test_rows_are_the_same_in_every_form(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows{suffix}"
    export.write_rows("--requests", file, ROWS)
    if suffix == ".csv":
        found = [
            {name: value or None for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(file.read_text()))
        ]
    elif suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs dsdq[sim]")
        found = [
            {name: value and str(value) for name, value in row.items()} for row in parquet.read_table(file).to_pylist()
        ]
    else:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found = [
            {"policy": None, "left": None} | {name: value and str(value) for name, value in row.items()}
            for row in lines
        ]
    assert found == [
        {"way": "a", "seed": "1", "x": "0.5", "left": None, "policy": None},
        {"way": "b", "seed": "2", "x": None, "left": None, "policy": "static:4"},
    ]


def test_figures_are_a_row_for_each_way_and_seed() -> None:
    document = {
        "seeds": [4, 5],
        "ways": {"a": {"set": {}, "each": {"x": [1, 2]}}, "b": {"set": {"p": "q"}, "each": {"x": [3, 4]}}},
    }
    assert export.figure_rows(document) == [
        {"way": "a", "seed": 4, "x": 1},
        {"way": "a", "seed": 5, "x": 2},
        {"way": "b", "p": "q", "seed": 4, "x": 3},
        {"way": "b", "p": "q", "seed": 5, "x": 4},
    ]


def test_what_cannot_be_written_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export.check("--json", None)
    export.check("--json", tmp_path / "found.json")
    for file in (tmp_path, tmp_path / "none" / "found.json"):
        with pytest.raises(ConfigError, match="--json: expected a file"):
            export.check("--json", file)
    with pytest.raises(ConfigError, match=r"--requests: expected a file that ends in \.csv"):
        export.check("--requests", tmp_path / "rows.xml", export.TABLES)
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"install dsdq\[sim\]"):
        export.write_parquet("--parquet", tmp_path / "rows", ROWS)


def test_a_file_that_cannot_be_written_after_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--json .*expected a file that can be written"):
        export.write_json("--json", tmp_path, {})
