"""``dsdq sim plot``: a result as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dsdq.errors import ConfigError
from dsdq.extras import require
from dsdq.sim import plot as plotting


def plot(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="What --json of another command wrote.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture: .png, .svg or .pdf.", show_default="RESULT.png")
    ] = None,
) -> None:
    """Draw RESULT: latencies, throughput and windows of its ways, or what a sweep varied."""
    require("matplotlib", "plot", "sim")
    picture = out or result.with_suffix(".png")
    plotting.draw(_read(result), picture)
    typer.echo(picture)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "something else"
        raise ConfigError(f"plot {file}: expected the JSON of a result, got: {why}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"plot {file}: expected the JSON of a result, got a {type(found).__name__}")
    return found
