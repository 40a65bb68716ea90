"""A result as a picture: of ways side by side, or of what a sweep varied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsdq.errors import ConfigError

SWEPT = ("tokens_per_s", "good_share", "ttft_ms", "tpot_ms", "acceptance", "cost_per_million")
_MOST_WAYS = 8
_MOST_WINDOWS = 12


def draw(document: Mapping[str, Any], file: Path) -> None:
    """Write the picture of a result; the file's name says in which format.

    Raises:
        ConfigError: it is no result that can be drawn, or the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(layout="constrained")
    if not document.get("ways"):
        raise ConfigError("plot: expected a result of dsdq sim, got one without ways")
    try:
        (_draw_sweep if document["kind"] == "sweep" and document["vary"] else _draw_ways)(figure, document)
        seeds = len(document["seeds"])
        figure.suptitle(f"{document['scenario']['name']}: {document['kind']}, {seeds} seed{'s' * (seeds > 1)}")
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(f"plot: expected a result of dsdq sim, got one without {error}") from None
    try:
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--out {file}: expected a file to write a picture to, such as run.png: {error}") from error


def _draw_ways(figure: Any, document: Mapping[str, Any]) -> None:  # noqa: ANN401 - matplotlib's, as below
    ways = dict(list(document["ways"].items())[:_MOST_WAYS])
    figure.set_size_inches(12, 8)
    (ttft, tpot), (rates, windows) = figure.subplots(2, 2)
    for axes, name, label in ((ttft, "ttft_ms", "TTFT, ms"), (tpot, "tpot_ms", "TPOT, ms")):
        for way, found in ways.items():
            quantiles = found["quantiles"].get(name) or []
            axes.plot(quantiles, [place / (len(quantiles) - 1) for place in range(len(quantiles))], label=way)
        axes.set(xlabel=label, ylabel="share of requests at most so long", ylim=(0, 1), xlim=(0, None))
        axes.grid(visible=True, alpha=0.3)
    ttft.legend()
    values = [_value(found, "tokens_per_s") for found in ways.values()]
    reach = [_reach(found, "tokens_per_s") for found in ways.values()]
    bars = rates.barh(list(ways), values, xerr=reach, color=[f"C{number}" for number in range(len(ways))])
    rates.bar_label(bars, fmt="%.4g", padding=4)
    rates.invert_yaxis()
    rates.set(xlabel="tokens a second, with 95 % confidence")
    rates.margins(x=0.15)
    name, shown = next(iter(ways.items()))
    counts = list(shown["windows"].items())[:_MOST_WINDOWS]
    total = sum(shown["windows"].values()) or 1
    windows.barh([window for window, _ in counts], [count / total for _, count in counts])
    windows.invert_yaxis()
    windows.set(xlabel="share of verdicts", title=f"windows x depth, {name}")


def _draw_sweep(figure: Any, document: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Draw a chart for each figure over the field of most numbers, a line for each combination of the others."""
    vary = document["vary"]
    numeric = [name for name, values in vary.items() if all(_number(value) is not None for value in values)]
    over = max(numeric or vary, key=lambda name: len(vary[name]))
    lines = _lines(document, over)
    figure.set_size_inches(13, 7)
    for axes, name in zip(figure.subplots(2, 3).flat, SWEPT, strict=True):
        for label, ways in lines.items():
            places = [_number(way["set"][over]) for way in ways] if numeric else [way["set"][over] for way in ways]
            values = [_value(way, name) for way in ways]
            axes.errorbar(places, values, [_reach(way, name) for way in ways], marker="o", capsize=3, label=label)
        axes.set(xlabel=over, ylabel=name, ylim=(0, None))
        axes.grid(visible=True, alpha=0.3)
        if not numeric:
            axes.tick_params(axis="x", rotation=30)
    if len(lines) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(lines), 4))


def _lines(document: Mapping[str, Any], over: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for way in document["ways"].values():
        others = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in way["set"].items() if name != over)
        found.setdefault(others, []).append(way)
    return found


def _value(way: Mapping[str, Any], name: str) -> float:
    """Return a figure; NaN, which is not drawn, for none."""
    value = way["figures"][name]
    return math.nan if value is None else float(value)


def _reach(way: Mapping[str, Any], name: str) -> float:
    """Return half the width of a figure's interval; 0 where one seed gives none."""
    within = way["intervals"][name]
    return (within[1] - within[0]) / 2 if within else 0.0


def _number(text: Any) -> float | None:  # noqa: ANN401 - of a document
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
