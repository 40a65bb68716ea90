"""A result as a picture: of ways side by side, or of what a sweep varied."""

from __future__ import annotations

from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dsdq.sim.files import write_bytes
from dsdq.sim.report.swept import DEFAULT_FIGURES, groups, over
from dsdq.sim.results import Result, Way
from dsdq.sim.wording import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")
_MOST_WAYS = 8
_MOST_WINDOWS = 12


def draw(result: Result, file: Path) -> None:
    """Write the picture of a result; the file's name says in which format: one of :data:`PICTURES`.

    Raises:
        ConfigError: the file cannot be written.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context({"text.parse_math": False}):  # names may have a $
        figure = Figure(layout="constrained")
        shown = (_draw_sweep if result.vary else _draw_ways)(figure, result)
        seeds, left = len(result.seeds), len(result.ways) - shown
        beyond = f" ({left} more of them not drawn)" if left else ""
        figure.suptitle(f"{result.scenario.name}: {result.kind}, {seeds} seed{'s' * (seeds > 1)}{beyond}")
        picture = BytesIO()
        figure.savefig(picture, format=file.suffix.removeprefix("."), dpi=110)
    write_bytes("--out", file, picture.getvalue())


def _draw_ways(figure: Figure, result: Result) -> int:
    """Draw ways and return how many."""
    ways = dict(islice(result.ways.items(), _MOST_WAYS))
    figure.set_size_inches(12, 8)
    (ttft, tpot), (rates, windows) = figure.subplots(2, 2)
    for axes, name in ((ttft, "ttft_ms"), (tpot, "tpot_ms")):
        _draw_quantiles(axes, ways, name)
    ttft.legend()
    _draw_bars(rates, ways, "tokens_per_s")
    name, first = next(iter(ways.items()))
    counts, total = list(first.windows.items())[:_MOST_WINDOWS], sum(first.windows.values()) or 1
    windows.barh([window for window, _ in counts], [count / total for _, count in counts])
    windows.invert_yaxis()
    windows.set(xlabel="share of verdicts", title=f"windows x depth, {name}")
    return len(ways)


def _draw_quantiles(axes: Axes, ways: dict[str, Way], name: str) -> None:
    for way, found in ways.items():
        quantiles = found.quantiles.get(name, [])
        last = max(len(quantiles) - 1, 1)
        axes.plot(quantiles, [place / last for place in range(len(quantiles))], label=way)
    axes.set(xlabel=label(name), ylabel="share of requests at most so long", ylim=(0, 1), xlim=(0, None))
    axes.grid(visible=True, alpha=0.3)


def _draw_bars(axes: Axes, ways: dict[str, Way], name: str) -> None:
    values, reach = [way.value(name) for way in ways.values()], [way.reach(name) for way in ways.values()]
    drawn = axes.barh(list(ways), values, xerr=reach, color=[f"C{number}" for number in range(len(ways))])
    axes.bar_label(drawn, fmt="%.4g", padding=4)
    axes.invert_yaxis()
    axes.set(xlabel=f"{label(name)}, with 95 % confidence")
    axes.margins(x=0.15)


def _draw_sweep(figure: Figure, result: Result) -> int:
    """Draw a chart for each figure and return how many cells are in it: all lines, or as many bars as are legible."""
    figure.set_size_inches(13, 7)
    charts = list(zip(figure.subplots(2, 3).flat, DEFAULT_FIGURES, strict=True))
    field = over(result.vary)
    if field is None:
        bars = dict(islice(result.ways.items(), _MOST_WAYS))
        for axes, name in charts:
            _draw_bars(axes, bars, name)
        return len(bars)
    lines = groups(result, field)
    for axes, name in charts:
        _draw_lines(axes, lines, field, name)
    if len(lines) > 1:
        figure.legend(*charts[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(lines), 4))
    return sum(map(len, lines.values()))


def _draw_lines(axes: Axes, lines: dict[str, list[Way]], field: str, name: str) -> None:
    for combination, ways in lines.items():
        places, values = [float(way.set[field]) for way in ways], [way.value(name) for way in ways]
        reach = [way.reach(name) for way in ways]
        axes.errorbar(places, values, reach, marker="o", capsize=3, label=combination)
    axes.set(xlabel=field, ylabel=label(name), ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
