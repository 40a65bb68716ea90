"""``dsdq sim validate``: the simulator against the live system on this machine, which it has not seen."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from dsdq.errors import ConfigError
from dsdq.sim import export, files
from dsdq.sim.validate import BOUNDS, Cell, Effort, judge

GROUP, LIVE = "dsdq.sim", "live"
RTTS_MS, QUICK_RTTS_MS = (0.0, 10.0, 30.0, 60.0, 100.0, 200.0), (10.0, 60.0)
QUICK_VARIANTS = ("pair", "slow-device")
WHOLE, BRIEF = Effort(texts=3, tokens=256, limit_s=3.0), Effort(texts=2, tokens=128, limit_s=2.0)
LABELS = {"tpot_ms": "TPOT, ms", "tokens_per_s": "tokens/s", "acceptance": "acceptance", "ttft_ms": "TTFT, ms"}

Quick = Annotated[bool, typer.Option("--quick", help="Two variants, two round trips, shorter texts: two minutes.")]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="pair, slow-target, slow-device, poor-draft, crowd; repeatable.", show_default="all"
    ),
]
Rtts = Annotated[
    list[float] | None,
    typer.Option(min=0.0, max=2000.0, help="A mean round trip; repeatable.", show_default="0, 10, 30, 60, 100, 200"),
]
Texts = Annotated[int | None, typer.Option(min=1, max=64, help="Texts of each policy and device.", show_default="3")]
Tokens = Annotated[int | None, typer.Option(min=2, max=2048, help="Tokens of each at most.", show_default="256")]
LimitS = Annotated[
    float | None,
    typer.Option(min=0.1, max=600.0, help="Seconds of each at most, and 20 round trips.", show_default="3"),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")]

Live = Callable[[Sequence[str], Sequence[float], Effort, Callable[[str], None]], list[Cell]]


def validate(
    quick: Quick = False,  # noqa: FBT002
    variants: Variants = None,
    rtt: Rtts = None,
    texts: Texts = None,
    tokens: Tokens = None,
    limit_s: LimitS = None,
    json_file: JsonFile = None,
) -> None:
    """Generate texts live over slow links, calibrate a simulation from one half of them, and predict the other.

    Whatever comes out, the exit code is 0: this measures.
    """
    files.check("--json", json_file)
    names = variants or (QUICK_VARIANTS if quick else ())
    rtts_ms = sorted(set(rtt or (QUICK_RTTS_MS if quick else RTTS_MS)))
    usual = BRIEF if quick else WHOLE
    effort = Effort(texts or usual.texts, tokens or usual.tokens, limit_s or usual.limit_s)
    console = Console()
    with Console(stderr=True).status("starting") as status:
        cells = _live()(names, rtts_ms, effort, lambda what: status.update(f"live: {what}"))
        status.update("simulating")
        found = judge(cells)
    found |= {"effort": asdict(effort), "machine": f"{platform.machine()}, {os.cpu_count()} CPUs"}
    show(console, found)
    if json_file is not None:
        export.write_json("--json", json_file, found)


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Print each cell's figures, live and predicted, misses marked, and the median errors."""
    for name, label in LABELS.items():
        table = Table(
            "", "round trip", "policy", "live", "predicted", "error", title=label, box=None, title_justify="left"
        )
        for row in found["cells"]:
            wrong = row["errors"][name]
            if wrong is not None:
                figures = (f"{row[side][name]:.4g}" for side in ("live", "predicted"))
                missed = " miss" if name in row["misses"] else ""
                table.add_row(row["variant"], f"{row['rtt_ms']:g} ms", row["policy"], *figures, f"{wrong:+.1%}{missed}")
        console.print(table)
    for name, label in LABELS.items():
        if name in found["medians"]:
            kept = sum(name not in row["misses"] for row in found["cells"] if row["errors"][name] is not None)
            total = sum(row["errors"][name] is not None for row in found["cells"])
            console.print(
                f"{label.partition(',')[0]}: off by {found['medians'][name]:.1%} in the median "
                f"(within {BOUNDS[name]:.0%}: {kept} of {total})",
                highlight=False,
                soft_wrap=True,
            )


def _live() -> Live:
    """Return what runs the workload.

    Raises:
        ConfigError: dsdq's producers are not installed.
    """
    found = entry_points(group=GROUP, name=LIVE)
    if not found:
        raise ConfigError("expected dsdq's producers to be installed to run anything live, found none; reinstall dsdq")
    return cast("Live", next(iter(found)).load())
