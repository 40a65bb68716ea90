"""Results as files: JSON, and tables as CSV, Parquet or JSONL. What there is nothing of is null, or empty."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsdq.errors import ConfigError
from dsdq.extras import require

Row = Mapping[str, Any]


def check(option: str, file: Path | None, suffixes: Sequence[str] = ()) -> None:
    """Return if a file may well be written, so that nothing is simulated for one that cannot.

    Raises:
        ConfigError: its folder is not there, its name ends otherwise, or what writes it is not installed.
    """
    if file is None:
        return
    if suffixes and file.suffix not in suffixes:
        raise ConfigError(f"{option}: expected a file that ends in {', '.join(suffixes)}, got {file.name}")
    if not file.parent.is_dir() or file.is_dir():
        raise ConfigError(f"{option}: expected a file in a folder that is there, got {file}")
    if file.suffix == ".parquet" or option == "--parquet":
        require("pyarrow", option, "sim")


def write_json(option: str, file: Path, document: Mapping[str, Any]) -> None:
    """Write a document.

    Raises:
        ConfigError: the file cannot be written.
    """
    text = json.dumps(plain(document), indent=2) + "\n"
    _written(option, file, lambda: file.write_text(text, encoding="utf-8"))


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value as JSON can say it: what is no finite number is None."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def figure_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return a row for each way and seed of a result, with what is set and all figures."""
    return [
        {"way": name, **way["set"], "seed": seed, **{figure: values[place] for figure, values in way["each"].items()}}
        for name, way in document["ways"].items()
        for place, seed in enumerate(document["seeds"])
    ]


def write_csv(option: str, file: Path, rows: Sequence[Row]) -> None:
    """Write rows of a table; columns are all that any row has.

    Raises:
        ConfigError: the file cannot be written.
    """

    def _write() -> None:
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, _columns(rows))
            writer.writeheader()
            writer.writerows(plain(row) for row in rows)

    _written(option, file, _write)


def write_parquet(option: str, file: Path, rows: Sequence[Row]) -> None:
    """Write rows of a table.

    Raises:
        ConfigError: pyarrow is not installed, or the file cannot be written.
    """
    check(option, file)
    from pyarrow import parquet, table  # noqa: PLC0415 - an extra

    found = [plain(row) for row in rows]
    columns = table({name: [row.get(name) for row in found] for name in _columns(rows)})
    _written(option, file, lambda: parquet.write_table(columns, file))


def write_rows(option: str, file: Path, rows: Sequence[Row]) -> None:
    """Write rows as the file's name says: ``.csv``, ``.parquet`` or ``.jsonl``.

    Raises:
        ConfigError: it says something else, or it cannot be written.
    """
    check(option, file, tuple(_WRITERS))
    _WRITERS[file.suffix](option, file, rows)


def _write_jsonl(option: str, file: Path, rows: Sequence[Row]) -> None:
    text = "".join(json.dumps(plain(row)) + "\n" for row in rows)
    _written(option, file, lambda: file.write_text(text, encoding="utf-8"))


_WRITERS = {".csv": write_csv, ".parquet": write_parquet, ".jsonl": _write_jsonl}
TABLES = tuple(_WRITERS)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _written(option: str, file: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise ConfigError(f"{option} {file}: expected a file that can be written, got: {error.strerror}") from None
