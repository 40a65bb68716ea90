"""How variants differ from the first of them. Pure."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element

from dsdq.sim.report.charts import Bar, ratios
from dsdq.sim.report.layout import card, cards, section, table
from dsdq.sim.report.markup import tag
from dsdq.sim.report.reading import Difference, Result
from dsdq.sim.report.ways import KEYS
from dsdq.sim.wording import LATENCIES, OTHERS, number


def differences(result: Result) -> Element:
    """Return ratios with their intervals as pictures, and all differences as tables."""
    title = f"Against {result.base}"
    shown, tables = [], []
    for place, (name, found) in enumerate(result.differences.items(), 1):
        shown.append(card(f"{name} / {result.base}", ratios(f"{name} against {result.base}", _marks(found, place))))
        tables.append(table(f"{name} against {result.base}", ("", "difference", "95 %", "ratio"), _rows(found)))
    note = (
        "Ratios, seed by seed, with 95 % confidence intervals: what crosses the middle line cannot be told apart "
        "with these seeds."
    )
    return section(title, cards(*shown), tag("div", *tables, class_="tables"), note=note)


def _marks(found: dict[str, Difference], place: int) -> list[Bar]:
    marks = []
    for figure, title, _ in KEYS:
        one = found.get(figure)
        if one is None or one.ratio is None or one.ratio <= 0:
            continue
        low, high = one.ratio_interval or (None, None)
        within = None if low is None or high is None else (low, high)
        text = f"{one.ratio:#.3g} times" + ("" if one.told_apart else ", not told apart")
        marks.append(Bar(title, one.ratio, text, within, place))
    return marks


def _rows(found: dict[str, Difference]) -> list[tuple[str, str, str, str]]:
    rows = []
    for figure, label in (*LATENCIES, *OTHERS):
        one = found.get(figure)
        if one is None or not one.difference or not math.isfinite(one.difference):
            continue
        low, high = one.interval or (None, None)
        span = "-" if low is None else f"{number(low, figure)} … {number(high, figure)}"
        if one.told_apart:
            rows.append((label, number(one.difference, figure), span, number(one.ratio)))
        else:
            rows.append((label, "not told apart", span, "-"))
    return rows
