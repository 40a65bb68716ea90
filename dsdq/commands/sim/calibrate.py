"""``dsdq sim calibrate``: a scenario in whose numbers a live trace would have come as it did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dsdq.errors import ConfigError
from dsdq.sim.calibrate import Calibration
from dsdq.sim.calibrate import calibrate as fit
from dsdq.sim.observed import read_observed
from dsdq.sim.scenario import to_toml

Trace = Annotated[
    Path, typer.Argument(metavar="TRACE", help="JSONL, a text a line, as `dsdq generate --trace` writes it.")
]
Engine = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The JSON of bench/engine.py; steps are fitted to that, not to the trace."),
]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the scenario there.", show_default="standard output")
]


def calibrate(trace: Trace, engine: Engine = None, out: Out = None) -> None:
    """Fit a scenario's numbers to TRACE; `dsdq sim run` takes it, or another scenario as its base."""
    document = _document(fit(read_observed(trace), None if engine is None else _read_engine(engine)))
    if out is None:
        typer.echo(document, nl=False)
        return
    try:
        out.write_text(document, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: expected a file that can be written: {error}") from None


def _document(found: Calibration) -> str:
    """Return the scenario as TOML, beneath what it is fitted to and how well."""
    return "".join(f"# {note}\n" for note in found.notes) + to_toml(found.scenario)


def _read_engine(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--engine {file}: expected the JSON of bench/engine.py: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"--engine {file}: expected the JSON of bench/engine.py, got a {type(found).__name__}")
    return found
