"""``dsdq sim plot``: a result as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsdq.extras import require
from dsdq.sim import files
from dsdq.sim import plot as plotting
from dsdq.sim.results import read


def plot(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="What --json of another command wrote.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture: .png, .svg or .pdf.", show_default="RESULT.png")
    ] = None,
) -> None:
    """Draw RESULT: latencies, throughput and windows of its ways, or what a sweep varied."""
    require("matplotlib", "plot", "sim")
    found = read(result)
    picture = out or result.with_suffix(".png")
    files.check("--out", picture, plotting.PICTURES)
    plotting.draw(found, picture)
    typer.echo(picture)
