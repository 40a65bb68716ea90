"""What a report's page is made of: sections, cards with a picture each, tables, legends. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from dsdq.sim.report.charts import swatch
from dsdq.sim.report.markup import Content, tag


def section(title: str, *content: Element, note: str = "") -> Element:
    """Return a section under a heading, perhaps with a sentence about it."""
    return tag("section", tag("h3", title), *([tag("p", note, class_="note")] if note else []), *content)


def card(title: str, picture: Element, note: str = "") -> Element:
    """Return a picture with its caption."""
    about = [tag("small", f" {note}")] if note else []
    return tag("figure", tag("figcaption", title, *about), picture)


def cards(*found: Element) -> Element:
    """Return cards beside one another, as many as fit."""
    return tag("div", *found, class_="cards")


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Content]]) -> Element:
    """Return a table whose first column names the rows; it scrolls within itself where it is too wide."""
    top = tag("tr", *(tag("th", name, scope="col") for name in head))
    body = [tag("tr", tag("th", first, scope="row"), *(tag("td", one) for one in rest)) for first, *rest in rows]
    made = tag("table", tag("caption", caption), tag("thead", top), tag("tbody", *body))
    return tag("div", made, class_="wide", role="region", aria_label=caption, tabindex="0")


def legend(names: Sequence[str], *, line: bool = False) -> Element:
    """Return what colours, and dashes where lines are drawn, stand for."""
    found = [tag("li", swatch(place, line=line), f" {name}") for place, name in enumerate(names)]
    return tag("ul", *found, class_="legend")
