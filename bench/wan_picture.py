"""The picture of ``bench/wan.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.picture import pyplot
from bench.wan_world import ADAPTIVE, MODES


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw tokens per second over the round trip time, one plot for each variant.

    Raises:
        DsdqError: matplotlib is not installed.
    """
    plt = pyplot()
    variants = result["variants"]
    columns = min(2, len(variants))
    rows = -(-len(variants) // columns)
    figure, plots = plt.subplots(rows, columns, figsize=(6 * columns, 4 * rows), squeeze=False, layout="constrained")
    for axes, (name, one) in zip(plots.flat, variants.items(), strict=False):
        cells = one["by_rtt_ms"]
        places = range(len(cells))
        for mode in MODES:
            rates = [cell["modes"][mode]["tokens_per_s"] for cell in cells.values() if mode in cell["modes"]]
            if len(rates) == len(cells):
                style = {"color": "black", "linewidth": 2.5} if mode == ADAPTIVE else {"linewidth": 1.2}
                axes.plot(places, rates, "o-", label=mode, markersize=4, **style)
        axes.set_xticks(places, list(cells))
        axes.set(title=f"{name}: {one['about']}", xlabel="round trip, ms", ylabel="tokens/s", ylim=(0, None))
        axes.legend(loc="best", fontsize=8)
    for axes in plots.flat[len(variants) :]:
        axes.set_axis_off()
    figure.savefig(file, dpi=110)
