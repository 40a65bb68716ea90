"""One line for what is wrong, whatever came."""

from __future__ import annotations

import datetime as dt

import pytest

from dsdq.sim.scenario.mistakes import path, plain, shown, unknown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", "'a\\nb'"),
        ("x" * 100, "'" + "x" * 64 + "'…"),
        (True, "true"),
        (3, "3"),
        (1 << 100, "a number of 101 bits"),
        (float("nan"), "nan"),
        ({"a": 1}, "a table"),
        ([1], "a list"),
        (None, "nothing"),
        (dt.date(2026, 11, 29), "a date"),
    ],
)
def test_what_came_is_shown_in_few_characters(value: object, text: str) -> None:
    assert shown(value) == text


def test_names_are_shown_so_that_a_terminal_stays_as_it_is() -> None:
    assert plain("a\x1b[2Jb") == "a\\x1b[2Jb"
    assert path(["devices", "", 3]) == 'devices."".3'


def test_the_nearest_known_name_is_suggested_or_all_are() -> None:
    assert unknown("cuont", ["count", "link"]).endswith("did you mean count?")
    assert unknown("zebra", ["count", "link"]) == "expected one of count, link, got 'zebra'"
