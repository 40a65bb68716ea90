"""What benchmarks have in common on their command lines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def options(about: str | None, *, quick: str = "", plot: str = "") -> argparse.ArgumentParser:
    """Return a parser with ``--json``, and with ``--quick`` and ``--plot`` where there is something to say of them."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    if plot:
        parser.add_argument("--plot", type=Path, metavar="FILE", help=f"a file such as {plot}; needs matplotlib")
    return parser


def write(result: dict[str, Any], file: Path | None) -> None:
    """Write a result where it was asked for."""
    if file is not None:
        file.write_text(json.dumps(result, indent=2) + "\n")
