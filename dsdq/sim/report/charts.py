"""Pictures as SVG: bars with whiskers, lines, and stacked bars. Pure.

All are drawn for a width of :data:`WIDTH` units, about a phone's, and grow with what is around them. Colours are
classes ``c0``, ``c1``, … of the page's style sheet, which differ in their dashes too; what a picture shows is in its
label as well, for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from dsdq.sim.report.axes import Axis, linear, spread, written
from dsdq.sim.report.markup import tag
from dsdq.sim.statistics import Interval

WIDTH = 400.0
COLOURS = 8
"""Classes of the style sheet; what comes beyond begins anew."""

_ROW = 40.0
_THICK = 14.0
_RIGHT = 12.0
_HEIGHT = 250.0
_MOST_NUMBERS = 17
_LETTER = 7.3
"""About the width of one."""

_MOST_LETTERS = int(WIDTH / _LETTER)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its name, how long it is, its number as text, and between which values it lies."""

    name: str
    value: float
    text: str
    within: Interval | None = None
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, perhaps each with an interval of its height; ``dots`` marks the points."""

    name: str
    points: Sequence[Point]
    within: Sequence[Interval | None] = ()
    colour: int = 0
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """What a picture shows: its title, and what its axes are."""

    title: str
    across: str = ""
    up: str = ""


def bars(title: str, rows: Sequence[Bar], *, end: float | None = None) -> Element:
    """Return a bar below its name for each row, from 0 to ``end`` or as far as the longest one or its whisker."""
    tops = [max(row.value, *(row.within or ())) if row.within else row.value for row in rows]
    finite = [top for top in tops if math.isfinite(top)]
    text = max((len(row.text) for row in rows), default=0) * _LETTER + 14
    across = Axis(0.0, end or max(finite, default=0.0) or 1.0, 0.0, WIDTH - text)
    drawn = [_bar(row, across, _ROW * place) for place, row in enumerate(rows)]
    return _picture(title, _said(rows), _ROW * len(rows), drawn)


def _fitting(name: str) -> str:
    """Return as much of a name as there is room for."""
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"


def _said(rows: Sequence[Bar]) -> str:
    return "; ".join(f"{row.name}: {row.text}" for row in rows)


def _bar(row: Bar, across: Axis, top: float) -> Element:
    middle = top + 26
    made = [tag("text", _fitting(row.name), x=0, y=top + 14, class_="name")]
    reach = 0.0
    if math.isfinite(row.value):
        reach = across.place(row.value)
        made.append(tag("rect", x=0, y=middle - _THICK / 2, width=max(reach, 1), height=_THICK, rx=2, class_="bar"))
    if row.within is not None:
        low, high = map(across.place, row.within)
        reach = max(reach, high)
        made.append(tag("path", d=_whisker(low, high, middle), class_="whisker"))
    made.append(tag("text", row.text, x=reach + 7, y=middle + 5, class_="value"))
    return tag("g", *made, class_=colour(row.colour))


def _whisker(low: float, high: float, y: float) -> str:
    return f"M{low:.1f} {y - 4}v8M{low:.1f} {y}H{high:.1f}M{high:.1f} {y - 4}v8"


def stacks(title: str, names: Sequence[str], parts: Sequence[str], values: Sequence[Sequence[float]]) -> Element:
    """Return a bar for each name, of parts one behind another: ``values[name][part]``, nothing where NaN.

    ``parts`` are what the parts are called; their colours are by place.
    """
    shown = [[value if math.isfinite(value) else 0.0 for value in row] for row in values]
    across = Axis(0.0, max(map(sum, shown), default=0.0) or 1.0, 0.0, WIDTH - 80)
    drawn = [
        _stack(name, parts, row, across, _ROW * place)
        for place, (name, row) in enumerate(zip(names, shown, strict=True))
    ]
    said = "; ".join(
        f"{name}: " + ", ".join(f"{part} {value:.3g}" for part, value in zip(parts, row, strict=True))
        for name, row in zip(names, shown, strict=True)
    )
    return _picture(title, said, _ROW * len(names), drawn)


def _stack(name: str, parts: Sequence[str], values: Sequence[float], across: Axis, top: float) -> Element:
    made = [tag("text", _fitting(name), x=0, y=top + 14, class_="name")]
    total = 0.0
    for number, (part, value) in enumerate(zip(parts, values, strict=True)):
        begin, total = across.place(total), total + value
        width = across.place(total) - begin
        if width > 0:
            box = tag("rect", x=begin, y=top + 19, width=max(width - 1, 0.5), height=_THICK, class_="bar")
            box.append(tag("title", f"{part}: {value:.3g}"))
            made.append(tag("g", box, class_=colour(number)))
    made.append(tag("text", f"{total:,.3g} ms", x=across.place(total) + 7, y=top + 31, class_="value"))
    return tag("g", *made)


def columns(labels: Labels, parts: Sequence[str], heights: Mapping[int, Sequence[float]]) -> Element:
    """Return a column at each whole number, of parts one on another: ``heights[number][part]``.

    ``parts`` are what the parts are called; their colours are by place.
    """
    up = linear([sum(column) for column in heights.values()], _HEIGHT - 42, 22)
    low, high = min(heights, default=0), max(heights, default=0)
    left = 12 + _LETTER * max(len(written(value)) for value in up.ticks())
    slot = (WIDTH - _RIGHT - left) / (high - low + 1)
    across = Axis(low - 0.5, high + 0.5, left, WIDTH - _RIGHT)
    made = [*_rungs(across, up), *_names(across, labels)]
    every = math.ceil((high - low + 1) / _MOST_NUMBERS)
    made += [
        tag("text", str(number), x=across.place(number), y=up.begin + 18, text_anchor="middle", class_="tick")
        for number in range(low, high + 1, every)
    ]
    for number, column in heights.items():
        made += _column(parts, column, across.place(number), min(0.8 * slot, 40.0), up)
    said = ", ".join(f"{number}: {sum(column):.3g}" for number, column in sorted(heights.items()))
    return _picture(labels.title, f"{labels.up} over {labels.across}: {said}", _HEIGHT, made)


def _column(parts: Sequence[str], values: Sequence[float], x: float, width: float, up: Axis) -> Iterator[Element]:
    total = 0.0
    for number, (part, value) in enumerate(zip(parts, values, strict=True)):
        low, total = up.place(total), total + value
        if value > 0:
            top = up.place(total)
            said = tag("title", f"{part}: {value:.3g}")
            box = tag("rect", said, x=x - width / 2, y=top, width=width, height=max(low - top - 1, 0.5), class_="bar")
            yield tag("g", box, class_=colour(number))


def lines(
    labels: Labels, drawn: Sequence[Line], *, wide: float = 20.0, most: float | None = None, level: float | None = None
) -> Element:
    """Return lines over an axis that is logarithmic where what it shows differs by more than a factor ``wide``.

    ``most`` is the upper end of the axis up, if it is known; ``level`` a height to mark.
    """
    points = [point for line in drawn for point in line.points if all(map(math.isfinite, point))]
    heights = [y for _, y in points] + [y for line in drawn for one in line.within if one for y in one]
    up = Axis(0.0, most, _HEIGHT - 42, 22) if most else linear(heights, _HEIGHT - 42, 22)
    left = 12 + _LETTER * max((len(written(value)) for value in up.ticks()), default=1)
    across = spread([x for x, _ in points], left, WIDTH - _RIGHT, wide=wide)
    parts = [*_grid(across, up, labels), *([] if level is None else [_level(level, across, up)])]
    parts += [_line(line, across, up) for line in drawn]
    return _picture(labels.title, f"Over {labels.across}: " + _ends(drawn), _HEIGHT, parts)


def _ends(drawn: Sequence[Line]) -> str:
    """Return where lines begin and end, in words."""
    return "; ".join(
        f"{line.name}: {line.points[0][1]:.4g} at {line.points[0][0]:.4g} to "
        f"{line.points[-1][1]:.4g} at {line.points[-1][0]:.4g}"
        for line in drawn
        if line.points
    )


def _grid(across: Axis, up: Axis, labels: Labels) -> Iterator[Element]:
    yield from _rungs(across, up)
    for value in across.ticks():
        x = across.place(value)
        yield tag("path", d=f"M{x:.1f} {up.end:.1f}V{up.begin + 4:.1f}", class_="grid")
        anchor = "end" if x > WIDTH - _LETTER * len(written(value)) / 2 else "middle"
        yield tag("text", written(value), x=x, y=up.begin + 18, text_anchor=anchor, class_="tick")
    yield from _names(across, labels)


def _rungs(across: Axis, up: Axis) -> Iterator[Element]:
    for value in up.ticks():
        y = up.place(value)
        yield tag("path", d=f"M{across.begin:.1f} {y:.1f}H{across.end:.1f}", class_="grid")
        yield tag("text", written(value), x=across.begin - 6, y=y + 4, text_anchor="end", class_="tick")


def _names(across: Axis, labels: Labels) -> Iterator[Element]:
    yield tag("text", labels.across, x=across.end, y=_HEIGHT - 7, text_anchor="end", class_="label")
    if labels.up:
        yield tag("text", labels.up, x=0, y=12, class_="label")


def _level(value: float, across: Axis, up: Axis) -> Element:
    return tag("path", d=f"M{across.begin:.1f} {up.place(value):.1f}H{across.end:.1f}", class_="level")


def _line(line: Line, across: Axis, up: Axis) -> Element:
    """Return a line, its gaps where there is no number."""
    path, pen_down = [], False
    for x, y in line.points:
        known = math.isfinite(x) and math.isfinite(y)
        if known:
            path.append(f"{'L' if pen_down else 'M'}{across.place(x):.1f} {up.place(y):.1f}")
        pen_down = known
    made = [tag("path", tag("title", line.name), d="".join(path), class_="line")]
    if line.dots:
        made += [tag("circle", cx=across.place(x), cy=up.place(y), r=3.5) for x, y in line.points if math.isfinite(y)]
    for (x, _), within in zip(line.points, line.within, strict=False):
        if within is not None:
            made.append(tag("path", d=_pole(across.place(x), *map(up.place, within)), class_="reach"))
    return tag("g", *made, class_=colour(line.colour))


def _pole(x: float, low: float, high: float) -> str:
    return f"M{x - 4:.1f} {low:.1f}h8M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {high:.1f}h8"


def spans(
    title: str, rows: Sequence[tuple[str, str, Interval | None]], axis: tuple[float, float], unit: str
) -> Element:
    """Return for each row a span of an axis, with its name and what is said of it; None is no span."""
    across = Axis(*axis, 0.0, WIDTH - 2)
    made = []
    for place, (name, text, within) in enumerate(rows):
        top = 62.0 * place
        made += [
            tag("text", _fitting(name), x=0, y=top + 14, class_="name"),
            tag("text", text, x=0, y=top + 31, class_="value"),
        ]
        made.append(tag("rect", x=0, y=top + 38, width=WIDTH - 2, height=10, rx=2, class_="track"))
        if within is not None:
            low, high = map(across.place, within)
            made.append(tag("rect", x=low, y=top + 38, width=max(high - low, 1), height=10, rx=2, class_="bar"))
    foot = 62.0 * len(rows) + 8
    for value in across.ticks():
        x = across.place(value)
        anchor = "start" if x < 10 else "end" if x > WIDTH - 30 else "middle"
        made.append(tag("text", f"{written(value)} {unit}".strip(), x=x, y=foot, text_anchor=anchor, class_="tick"))
    said = "; ".join(f"{name}: {text}" for name, text, _ in rows)
    return _picture(title, said, foot + 8, [tag("g", *made, class_=colour(0))])


def ratios(title: str, rows: Sequence[Bar]) -> Element:
    """Return a mark and its interval for each row on a logarithmic axis with 1 in its middle."""
    reach = [abs(math.log(value)) for row in rows for value in (row.value, *(row.within or ())) if value > 0]
    widest = math.exp(min(max(reach, default=0.1), math.log(10.0)) * 1.08)
    across = Axis(1 / widest, widest, 6.0, WIDTH - 6, log=True)
    height = _ROW * len(rows)
    made = [tag("path", d=f"M{across.place(1):.1f} 4V{height:.1f}", class_="level")]
    for place, row in enumerate(rows):
        top = _ROW * place
        x, y = across.place(row.value), top + 28
        parts = [tag("text", row.name, x=0, y=top + 14, class_="name")]
        parts.append(tag("text", row.text, x=WIDTH, y=top + 14, text_anchor="end", class_="value"))
        if row.within is not None:
            parts.append(
                tag("path", d=_whisker(across.place(row.within[0]), across.place(row.within[1]), y), class_="reach")
            )
        parts.append(tag("circle", cx=x, cy=y, r=4.5))
        made.append(tag("g", *parts, class_=colour(row.colour)))
    made += [
        tag("text", written(value), x=across.place(value), y=height + 14, text_anchor="middle", class_="tick")
        for value in across.ticks()
    ]
    return _picture(title, _said(rows), height + 20, made)


def swatch(number: int, *, line: bool = False) -> Element:
    """Return a sample of a colour for a legend, of a line with its dashes or of a bar."""
    inner = (
        tag("path", d="M1 6H31", class_="line") if line else tag("rect", x=1, y=1, width=12, height=10, class_="bar")
    )
    width = 32 if line else 14
    return tag(
        "svg", tag("g", inner, class_=colour(number)), width=width, height=12, class_="swatch", aria_hidden="true"
    )


def colour(number: int) -> str:
    """Return the class of a colour."""
    return f"c{number % COLOURS}"


def _picture(title: str, said: str, height: float, parts: Sequence[Element]) -> Element:
    label = f"{title}. {said}" if said else title
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH:g} {height:g}", role="img", aria_label=label)
