"""``dsdq sim awc-train``: label random worlds, train AWC, evaluate it, and write weights with their card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsdq.commands.sim.options import Jobs
from dsdq.contract import MAX_SEED
from dsdq.extras import require
from dsdq.sim import files
from dsdq.sim.runners import cores

Scenarios = Annotated[int, typer.Option(min=8, max=1_000_000, help="Random worlds; 10 % of them are kept apart.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of worlds, weights and order.")]
Out = Annotated[Path, typer.Option(help="Weights of awc; those of awc:paper and a card are written beside it.")]
Labels = Annotated[
    Path | None,
    typer.Option(help="Where labels are kept, so that a run that was cut short goes on.", show_default="beside --out"),
]
Quick = Annotated[bool, typer.Option("--quick", help="A minute's run to see that all works; its weights are no use.")]


def awc_train(
    scenarios: Scenarios = 2000,
    seed: Seed = 1,
    out: Out = Path("awc.safetensors"),
    labels: Labels = None,
    jobs: Jobs = None,
    quick: Quick = False,  # noqa: FBT002 - a flag
) -> None:
    """Train the window policy awc on simulated worlds, and evaluate it on others.

    Raises:
        ConfigError: torch is not installed, a file is not what was expected, or has nowhere to be.
    """
    require("torch", "dsdq sim awc-train", "torch")
    kept = labels or out.with_suffix(".labels.jsonl")
    files.check("--out", out, (".safetensors",))
    files.check("--labels", kept)
    from dsdq.sim.awc.recipe import Recipe, make  # noqa: PLC0415 - torch takes seconds, and need not be there

    console = Console()
    recipe = Recipe(scenarios=scenarios, seed=seed)
    card = make(recipe.quickly() if quick else recipe, out, kept, jobs or cores(), console.print)
    console.print(_table(card["gap_to_oracle"]))
    console.print(f"wrote {', '.join(one['file'] for one in card['policies'].values())} and {out.stem}.json")


def _table(gaps: dict[str, dict[str, dict[str, float]]]) -> Table:
    table = Table("policy", "worlds", "mean gap", "median", "p95", "against optimal")
    for policy, groups in gaps.items():
        for group, gap in groups.items():
            figures = (f"{gap[name]:.1%}" for name in ("mean", "median", "p95"))
            table.add_row(policy, f"{gap['worlds']} {group}", *figures, f"{gap['beats_optimal']:+.1%}")
    return table
