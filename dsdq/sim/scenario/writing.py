"""A scenario as a TOML document in which everything is given, so that a run can be repeated from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dsdq.sim.scenario.model import Scenario

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(scenario: Scenario) -> str:
    """Return the document; :func:`~dsdq.sim.scenario.reading.load_scenario` reads the same scenario from it."""
    return "\n".join(_lines(scenario.model_dump(mode="json", exclude_none=True), ())).lstrip("\n") + "\n"


def _lines(table: Mapping[str, Any], place: Sequence[str]) -> Iterator[str]:
    """Yield a table's lines: what is no table first, since all behind a header belongs to it."""
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    if place and (len(tables) < len(table) or not table):
        yield ""
        yield f"[{'.'.join(map(_key, place))}]"
    for key, value in table.items():
        if key not in tables:
            yield f"{_key(key)} = {_value(value)}"
    for key, inner in tables.items():
        yield from _lines(inner, (*place, key))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)  # TOML's escapes are JSON's, but for surrogates
    return repr(value)
