"""Documents are bounded: a small file that would take long, or mean two things, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.scenario.documents import MAX_BYTES, read_document, value_of


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("large.toml", "#" * (MAX_BYTES + 1), "expected at most 1,000,000 bytes"),
        ("deep.toml", "x = " + 900_000 * "[", "too deep"),
        ("dotted.toml", 400_000 * "a." + "a = 1", "at most 64 dots"),
        ("digits.toml", "x = " + 5000 * "1", "expected TOML"),
        ("twice.toml", "a = 1\na = 2", "expected TOML"),
        ("deep.yaml", 900_000 * "[", "at most 64 deep"),
        ("steps.yaml", 400_000 * "- ", "at most 64 deep"),
        ("many.yaml", "[" + 400_000 * "1," + "]", "at most 100,000 names and values"),
        ("alias.yaml", "a: &many [1, 2]\nb: [*many, *many]", "without aliases"),
        ("twice.yaml", "a: 1\na: 2", "every field once, got 'a' twice"),
        ("number.yaml", "1: 2", "fields with names, got 1"),
        ("object.yaml", "!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("tag.yaml", "a: !!float ''", "a value that is not of its tag's kind"),
        ("two.yaml", "a: 1\n---\nb: 2", "another document (at line 2"),
        ("empty.yaml", "", "expected a table of fields, got nothing"),
    ],
)
def test_what_is_no_small_table_is_refused_soon(name: str, text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path / name)
    assert why in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        ("'7'", "7"),
        ("awc", "awc"),
        ("static:4", "static:4"),
        ("[1, 2", "[1, 2"),
        ("1\nother = 2", "1\nother = 2"),
        ("", ""),
    ],
)
def test_a_settings_value_is_toml_or_text_as_it_stands(text: str, value: object) -> None:
    assert value_of(text) == value
