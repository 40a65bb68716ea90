"""``dsdq sim report``: results as a page with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsdq.errors import ConfigError
from dsdq.sim import files
from dsdq.sim.report import report as reported
from dsdq.sim.report.swept import DEFAULT_FIGURES
from dsdq.sim.results import read


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT…", help="What --json of other commands wrote.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("report.html"),
    figure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Draw this figure of sweeps; repeatable.", show_default="the most used"),
    ] = None,
) -> None:
    """Write RESULTs as one HTML page with pictures, which needs no other file and no network."""
    files.check("--out", out, (".html",))
    found = [read(file) for file in results]
    sweeps = [one for one in found if one.kind == "sweep"]
    if figure and not sweeps:
        raise ConfigError("--figure: expected a sweep among the results, of which figures are chosen, got none")
    known = dict.fromkeys(name for one in sweeps for way in one.ways.values() for name in way.figures)
    for name in figure or ():
        if name not in known:
            raise ConfigError(f"--figure: expected one of {', '.join(known)}, got {name!r}")
    files.write_text("--out", out, reported(found, figure or DEFAULT_FIGURES))
    typer.echo(out)
