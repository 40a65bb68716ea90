"""How variants differ from the first of them. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from dsdq.sim import rows
from dsdq.sim.report.charts import Bar, ratios
from dsdq.sim.report.layout import card, cards, section, table
from dsdq.sim.report.markup import tag
from dsdq.sim.report.ways import KEYS
from dsdq.sim.results import Difference, Result, known
from dsdq.sim.rows import DIFFERENCE, NOT_TOLD_APART


def differences(result: Result) -> Element:
    """Return ratios with their intervals as pictures, and all differences as tables."""
    title = f"Against {result.base}"
    shown, tables = [], []
    for place, (name, found) in enumerate(result.differences.items(), 1):
        shown.append(card(f"{name} / {result.base}", ratios(f"{name} against {result.base}", _marks(found, place))))
        tables.append(table(f"{name} against {result.base}", DIFFERENCE, list(rows.differences(found))))
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
        text = f"{one.ratio:#.3g} times" + ("" if one.told_apart else f", {NOT_TOLD_APART}")
        marks.append(Bar(title, one.ratio, text, known(one.ratio_interval), place))
    return marks
