"""Results as files say the same in every form."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

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


def test_a_file_says_by_its_name_which_form_it_has(tmp_path: Path) -> None:
    for option, given in (("--csv", (None, tmp_path / "a.txt", None)), ("--parquet", (None, None, tmp_path / "a.csv"))):
        with pytest.raises(ConfigError, match=rf"{option}: expected a file that ends in \.{option[2:]}, got a"):
            export.check(*given)
    with pytest.raises(ConfigError, match=r"--requests: expected a file that ends in \.csv, \.parquet, \.jsonl"):
        export.write_rows("--requests", tmp_path / "rows", ROWS)


@pytest.mark.parametrize("suffix", export.TABLES)
def test_a_table_that_cannot_be_written_is_told(tmp_path: Path, full: Path, suffix: str) -> None:
    (file := tmp_path / f"rows{suffix}").symlink_to(full)
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="needs dsdq[sim]")
    with pytest.raises(ConfigError, match=r"--requests .*expected a file that can be written, got: .*No space left"):
        export.write_rows("--requests", file, ROWS)
