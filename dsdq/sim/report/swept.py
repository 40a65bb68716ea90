"""What a sweep varied: charts of figures over one field, a line for each combination of the others. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from xml.etree.ElementTree import Element

from dsdq.sim.report.charts import COLOURS, Labels, Line, bars, lines
from dsdq.sim.report.layout import card, cards, legend, section, table
from dsdq.sim.report.ways import figure_bars
from dsdq.sim.results import Result, Way
from dsdq.sim.rows import has, with_reach
from dsdq.sim.wording import SHARES, label

DEFAULT_FIGURES = ("tokens_per_s", "good_share", "ttft_ms", "tpot_ms", "acceptance", "cost_per_million")


def charts(result: Result, figures: Sequence[str]) -> Element:
    """Return a chart for each figure that is not 0 everywhere."""
    shown = [one for one in figures if has(result.ways.values(), one)]
    field = over(result.vary)
    if field is None:
        drawn = [card(label(one), bars(label(one), figure_bars(result.ways, one))) for one in shown]
        return section("What varies", cards(*drawn))
    lined = groups(result, field)
    drawn = [card(label(one), _chart(lined, field, one)) for one in shown]
    names = [legend(list(lined), line=True)] if len(lined) > 1 else []
    note = "With 95 % confidence intervals, where there are several seeds."
    if (left := len(result.ways) - sum(map(len, lined.values()))) > 0:
        note += f" {left} cells more are in the table only."
    return section(f"Over {field}", *names, cards(*drawn), note=note)


def _chart(groups: Mapping[str, Sequence[Way]], over: str, figure: str) -> Element:
    by, most, unit = (100.0, 100.0, "%") if figure in SHARES else (1.0, None, "")
    drawn = [
        Line(
            name or label(figure),
            [(float(way.set[over]), by * way.value(figure)) for way in ways],
            [within and (by * within[0], by * within[1]) for within in (way.interval(figure) for way in ways)],
            place,
            dots=True,
        )
        for place, (name, ways) in enumerate(groups.items())
    ]
    return lines(Labels(label(figure), over, unit), drawn, most=most)


def over(vary: Mapping[str, Sequence[str]]) -> str | None:
    """Return the field of most numbers, the first if there are several; None where none is numeric."""
    numeric = [name for name, values in vary.items() if len(values) > 1 and all(map(_is_number, values))]
    return max(numeric, key=lambda name: len(vary[name])) if numeric else None


def groups(result: Result, over: str) -> dict[str, list[Way]]:
    """Return the cells of each combination of the other fields, in order of the field: as many as there are colours."""
    found: dict[str, list[Way]] = {}
    for way in result.ways.values():
        others = ", ".join(f"{name.rpartition('.')[2]} = {value}" for name, value in way.set.items() if name != over)
        found.setdefault(others, []).append(way)
    return {name: sorted(ways, key=lambda way: float(way.set[over])) for name, ways in islice(found.items(), COLOURS)}


def cells(result: Result, figures: Sequence[str]) -> Element:
    """Return a table with a row for each cell."""
    shown = [one for one in figures if has(result.ways.values(), one)]
    rows = [
        (", ".join(map(str, way.set.values())), *(with_reach(way, one) for one in shown))
        for way in result.ways.values()
    ]
    return section("All cells", table("Means over seeds", (", ".join(result.vary), *map(label, shown)), rows))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
