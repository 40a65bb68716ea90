"""``dsdq sim calibrate``: a scenario in whose numbers a live trace would have come as it did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsdq.policies.window import Mode
from dsdq.sim import files
from dsdq.sim.calibrate import Calibration
from dsdq.sim.calibrate import calibrate as fit
from dsdq.sim.observed import read_observed
from dsdq.sim.replaying import arrivals_of, recordings_of
from dsdq.sim.scenario import to_toml
from dsdq.sim.scenario.traces import write_arrivals, write_recordings

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
Arrivals = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write when texts were asked for there, JSONL, as `arrivals.trace` takes it."),
]
Recordings = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write which of devices' guesses were right there, JSONL, as `acceptance.trace` takes it."
    ),
]


def calibrate(
    trace: Trace, engine: Engine = None, out: Out = None, arrivals: Arrivals = None, recordings: Recordings = None
) -> None:
    """Fit a scenario's numbers to TRACE; `dsdq sim run` takes it, or another scenario as its base."""
    for option, file in (("--out", out), ("--arrivals", arrivals), ("--recordings", recordings)):
        files.check(option, file)
    steps = None if engine is None else files.read_json("--engine", engine, "the JSON of bench/engine.py")
    texts = read_observed(trace)
    document = _document(fit(texts, steps))
    if arrivals is not None:
        write_arrivals(arrivals, arrivals_of(texts))
    if recordings is not None:
        write_recordings(recordings, recordings_of(texts, Mode.SPECULATE))
    if out is None:
        typer.echo(document, nl=False)
    else:
        files.write_text("--out", out, document)


def _document(found: Calibration) -> str:
    """Return the scenario as TOML, beneath what it is fitted to and how well."""
    return "".join(f"# {note}\n" for note in found.notes) + to_toml(found.scenario)
