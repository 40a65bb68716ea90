"""Pictures: what is drawn where."""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element

import pytest

from dsdq.sim.report.charts import WIDTH, Bar, Labels, Line, bars, columns, lines, ratios, spans, stacks


def found(picture: Element, name: str, kind: str | None = None) -> list[dict[str, str]]:
    return [one.attrib for one in picture.iter(name) if kind in {None, one.get("class")}]


def texts(picture: Element) -> list[str]:
    return [one.text or "" for one in picture.iter("text")]


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_bars_are_as_long_as_their_values_and_have_whiskers() -> None:
    picture = bars("Speed", [Bar("a", 10.0, "10 ± 1", (9.0, 11.0)), Bar("b", 5.0, "5"), Bar("c", math.nan, "-")])
    short, long = sorted(float(one["width"]) for one in found(picture, "rect", "bar"))
    assert long == pytest.approx(2 * short, rel=0.01)
    (whisker,) = found(picture, "path", "whisker")
    low, high = (x for x, y in places(whisker["d"])[::2])
    assert low < long < high
    assert texts(picture) == ["a", "10 ± 1", "b", "5", "c", "-"]
    assert picture.get("aria-label") == "Speed. a: 10 ± 1; b: 5; c: -"


def test_parts_of_a_bar_lie_one_behind_another() -> None:
    parts = ["wait", "work"]
    picture = stacks("Time", ["a", "b"], parts, [[1.0, 3.0], [math.nan, 2.0]])
    first, second, alone = found(picture, "rect", "bar")
    assert float(second["x"]) == pytest.approx(float(first["x"]) + float(first["width"]) + 1, abs=0.02)
    assert float(alone["x"]) == 0
    assert float(alone["width"]) == pytest.approx(2 * float(first["width"]), abs=1.1)
    assert texts(picture) == ["a", "4 ms", "b", "2 ms"]


def test_columns_stand_at_their_numbers() -> None:
    parts = ["near", "far"]
    picture = columns(Labels("Windows", "tokens", "%"), parts, {2: [30.0, 10.0], 5: [60.0, 0.0]})
    low, top, other = found(picture, "rect", "bar")
    assert float(top["y"]) + float(top["height"]) + 1 == pytest.approx(float(low["y"]), abs=0.02)
    assert float(other["x"]) > float(low["x"]) == float(top["x"])
    assert float(other["height"]) == pytest.approx(2 * float(low["height"]), rel=0.05)
    assert {"2", "3", "4", "5"} <= set(texts(picture))


def test_lines_have_gaps_where_nothing_is_known_and_poles_for_intervals() -> None:
    line = Line("a", [(1.0, 1.0), (2.0, math.nan), (3.0, 3.0), (4.0, 2.0)], [None, None, (2.5, 3.5), None], dots=True)
    picture = lines(Labels("Rates", "ms", "tokens"), [line], level=2.0)
    (path,) = found(picture, "path", "line")
    assert [letter for letter in path["d"] if letter.isalpha()] == ["M", "M", "L"]
    assert len(found(picture, "circle")) == 3
    assert len(found(picture, "path", "reach")) == 1
    (level,) = found(picture, "path", "level")
    assert places(level["d"])[0][1] == places(path["d"])[2][1]  # at the height of 2
    assert picture.get("aria-label") == "Rates. Over ms: a: 1 at 1 to 2 at 4"


def test_all_of_a_picture_lies_within_it() -> None:
    line = Line("a", [(float(x), 1e6 * x) for x in range(1, 400)])
    picture = lines(Labels("Many", "devices", "tokens"), [line])
    points = [point for one in found(picture, "path") for point in places(one["d"])]
    height = float((picture.get("viewBox") or "").split()[3])
    assert all(0 <= x <= WIDTH and 0 <= y <= height for x, y in points)


def test_ratios_lie_around_1() -> None:
    rows = [Bar("more", 2.0, "2", (1.5, 2.5)), Bar("half", 0.5, "0.5"), Bar("much less", 1e-9, "0", (-1.0, 1.0))]
    picture = ratios("Against", rows)
    more, half, less = (float(one["cx"]) for one in found(picture, "circle"))
    (one,) = found(picture, "path", "level")
    middle = places(one["d"])[0][0]
    assert more - middle == pytest.approx(middle - half, abs=0.2)
    assert 0 <= less < half


def test_a_span_begins_and_ends_where_it_holds() -> None:
    picture = spans(
        "Pays", [("than a", "up to 250 ms", (0.0, 250.0)), ("than b", "nowhere", None)], (0.0, 1000.0), "ms"
    )
    (bar,) = found(picture, "rect", "bar")
    (track, _) = found(picture, "rect", "track")
    assert float(bar["width"]) == pytest.approx(float(track["width"]) / 4)
    assert {"up to 250 ms", "nowhere", "1000 ms"} <= set(texts(picture))
