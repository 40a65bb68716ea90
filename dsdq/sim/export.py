"""Results as files: JSON, and tables as CSV, Parquet or JSONL. What there is nothing of is null, or empty."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from dsdq.sim import files

Row = Mapping[str, Any]


def check(json_file: Path | None, csv_file: Path | None, parquet_file: Path | None) -> None:
    """Return if all files of a result may well be written, so that nothing is simulated for one that cannot.

    Raises:
        ConfigError: one may not.
    """
    files.check("--json", json_file)
    files.check("--csv", csv_file, (".csv",))
    files.check("--parquet", parquet_file, (".parquet",))


def write(
    document: Mapping[str, Any], json_file: Path | None, csv_file: Path | None, parquet_file: Path | None
) -> None:
    """Write a result to the files that are asked for.

    Raises:
        ConfigError: a file cannot be written.
    """
    if json_file is not None:
        write_json("--json", json_file, document)
    for option, file in (("--csv", csv_file), ("--parquet", parquet_file)):
        if file is not None:
            write_rows(option, file, figure_rows(document))


def write_json(option: str, file: Path, document: Mapping[str, Any]) -> None:
    """Write a document.

    Raises:
        ConfigError: the file cannot be written.
    """
    files.write_text(option, file, json.dumps(jsonable(document), indent=2) + "\n")


def jsonable(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value as JSON can say it: what is no finite number is None."""
    if isinstance(value, Mapping):
        return {str(name): jsonable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def figure_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return a row for each way and seed of a result, with what is set and all figures."""
    return [
        {"way": name, **way["set"], "seed": seed, **{figure: values[place] for figure, values in way["each"].items()}}
        for name, way in document["ways"].items()
        for place, seed in enumerate(document["seeds"])
    ]


def write_rows(option: str, file: Path, rows: Sequence[Row]) -> None:
    """Write rows of a table as the file's name says; columns are all that any row has.

    Raises:
        ConfigError: it ends in none of :data:`TABLES`, it cannot be written, or what writes it is not installed.
    """
    files.check(option, file, TABLES)
    found = [jsonable(row) for row in rows]
    columns = list(dict.fromkeys(name for row in found for name in row))
    files.write_bytes(option, file, _FORMS[file.suffix](found, columns))


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    stream = StringIO()
    writer = csv.DictWriter(stream, columns)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _parquet(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    from pyarrow import parquet, table  # noqa: PLC0415 - an extra

    stream = BytesIO()
    parquet.write_table(table({name: [row.get(name) for row in rows] for name in columns}), stream)
    return stream.getvalue()


def _jsonl(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    del columns  # a line says its own
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


_FORMS = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}
TABLES = tuple(_FORMS)
