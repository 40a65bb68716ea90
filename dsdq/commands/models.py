"""``dsdq models``: the built-in pair, its sizes and what was measured when it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dsdq.errors import ModelError
from dsdq.models.names import BUILTIN_NAMES, resolve

FACTS = Path(__file__).parents[1] / "models" / "builtin" / "facts.json"


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """List the built-in models with their sizes and measured acceptance."""
    facts = read_facts()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    console = Console()
    table = Table("model", "parameters", "file", "validation loss", title="built-in pair")
    for name in BUILTIN_NAMES:
        role = name.removeprefix("builtin/")
        size_mb = (Path(resolve(name)) / "model.safetensors").stat().st_size / 1e6
        table.add_row(
            name,
            f"{facts[role]['parameters'] / 1e6:.2f} M",
            f"{size_mb:.1f} MB",
            f"{facts[role]['validation_loss']:.2f}",
        )
    console.print(table)
    acceptance = facts["acceptance"]
    console.print(
        f"acceptance of a drafted token: {acceptance['t1']:.1%} at T=1, {acceptance['greedy']:.1%} greedy "
        f"(1 - TV: {acceptance['one_minus_tv']:.1%}), on target-generated text after prompts kept apart"
    )


def read_facts() -> dict[str, Any]:
    """Return what the training run wrote about the pair.

    Raises:
        ModelError: the file is missing.
    """
    if not FACTS.is_file():
        msg = f"expected the built-in pair's figures at {FACTS.name}, found none; reinstall dsdq or run `make pair`"
        raise ModelError(msg)
    facts: dict[str, Any] = json.loads(FACTS.read_text())
    return facts
