"""``dsdq sim calibrate``: a scenario in whose numbers a live trace would have come as it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from dsdq.errors import ConfigError
from dsdq.policies.window import Mode
from dsdq.sim import files
from dsdq.sim.calibrate import asking, guessing
from dsdq.sim.calibrate import calibrate as fit
from dsdq.sim.observed import read_observed
from dsdq.sim.replaying import arrivals_of, recordings_of
from dsdq.sim.scenario import Scenario, to_toml
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
    typer.Option(metavar="FILE", help="Write when texts were asked for there, JSONL; the scenario asks as they did."),
]
Recordings = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write which of devices' guesses were right there, JSONL; the scenario goes by them."
    ),
]


def calibrate(
    trace: Trace, engine: Engine = None, out: Out = None, arrivals: Arrivals = None, recordings: Recordings = None
) -> None:
    """Fit a scenario's numbers to TRACE; `dsdq sim run` takes it, or another scenario as its base."""
    written = {"--out": out, "--arrivals": arrivals, "--recordings": recordings}
    for option, file in written.items():
        files.check(option, file)
    _check_apart({"TRACE": trace, "--engine": engine}, written)
    steps = None if engine is None else files.read_json("--engine", engine, "the JSON of bench/engine.py")
    texts = read_observed(trace)
    found = fit(texts, steps)
    asked = None if arrivals is None else arrivals_of(texts)
    right = None if recordings is None else recordings_of(texts, Mode.SPECULATE)
    scenario = found.scenario
    if arrivals is not None and asked is not None:
        write_arrivals(arrivals, asked)
        scenario = asking(scenario, asked, str(arrivals.absolute()))
    if recordings is not None and right is not None:
        write_recordings(recordings, right)
        scenario = guessing(scenario, str(recordings.absolute()))
    document = _document(found.notes, scenario)
    if out is None:
        typer.echo(document, nl=False)
    else:
        files.write_text("--out", out, document)


def _check_apart(read: Mapping[str, Path | None], written: Mapping[str, Path | None]) -> None:
    """Check that no file is written that is read, or twice."""
    seen = {file.resolve(): name for name, file in read.items() if file is not None}
    for option, file in written.items():
        first = option if file is None else seen.setdefault(file.resolve(), option)
        if first != option:
            raise ConfigError(f"{option}: expected another file than that of {first}, got {file}")


def _document(notes: Sequence[str], scenario: Scenario) -> str:
    """Return the scenario as TOML, beneath what it is fitted to and how well."""
    return "".join(f"# {note}\n" for note in notes) + to_toml(scenario)
