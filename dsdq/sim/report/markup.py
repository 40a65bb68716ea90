"""HTML and SVG as trees: what a scenario says goes in as text or as an attribute, and so comes out escaped. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

Content = Element | str
Value = str | float | None


def tag(name: str, /, *content: Content, **attributes: Value) -> Element:
    """Return an element.

    Attributes are named as in HTML with ``_`` for ``-``, and ``class_``; one that is None is left out. Numbers are
    written with two places at most, which is plenty for pixels.
    """
    made = Element(name, {_name(key): _text(value) for key, value in attributes.items() if value is not None})
    last: Element | None = None
    for one in content:
        if isinstance(one, Element):
            made.append(one)
            last = one
        elif last is None:
            made.text = (made.text or "") + one
        else:
            last.tail = (last.tail or "") + one
    return made


def document(root: Element) -> str:
    """Return a whole page's text."""
    return f"<!doctype html>\n{tostring(root, encoding='unicode', method='html')}\n"


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
