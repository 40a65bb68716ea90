"""``dsdq sim calibrate``: a scenario in whose numbers a live trace would have come as it did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsdq.sim import files
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
    files.check("--out", out)
    steps = None if engine is None else files.read_json("--engine", engine, "the JSON of bench/engine.py")
    document = _document(fit(read_observed(trace), steps))
    if out is None:
        typer.echo(document, nl=False)
    else:
        files.write_text("--out", out, document)


def _document(found: Calibration) -> str:
    """Return the scenario as TOML, beneath what it is fitted to and how well."""
    return "".join(f"# {note}\n" for note in found.notes) + to_toml(found.scenario)
