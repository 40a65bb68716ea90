"""How a scenario is put together: files on their base, settings on files, and profiles beneath what is given.

Tables are merged field by field, with these exceptions. ``arrivals`` are alternatives, so that one given replaces one
that was; so is acceptance by place or from a trace. A link or a workload may be the name of a profile, which replaces a
table that was, and which a table of fields is laid upon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dsdq.errors import ConfigError
from dsdq.sim.scenario.documents import Document, value_of
from dsdq.sim.scenario.library import Kind, profile
from dsdq.sim.scenario.mistakes import path, plain, shown, unknown

MAX_DEPTH = 16
"""Names in the path of a field."""

MAX_SET_CHARACTERS = 10_000


def laid_upon(under: Document, over: Document) -> Document:
    """Return a document with what ``over`` gives, and what ``under`` gives where ``over`` does not.

    A value that is null is not given.
    """
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, str):
            below = {"profile": below}
        if isinstance(value, dict) and not _replaces(key, value):
            merged[key] = laid_upon(below if isinstance(below, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def _replaces(key: str, table: Document) -> bool:
    """Say whether a table stands for all of what was there before."""
    if key in {"acceptance", "own_acceptance"}:
        return "by_place" in table or "trace" in table
    return key == "arrivals"


def with_settings(document: Document, settings: Sequence[str]) -> Document:
    """Return a document with each ``path.to.field=value`` laid upon it; ``*`` in a path is every name there.

    Raises:
        ConfigError: one is not of that form, or names a class of devices that is not there.
    """
    for setting in settings:
        field, equals, text = setting.partition("=")
        names = field.strip().split(".")
        if not equals or not all(names) or len(names) > MAX_DEPTH or len(setting) > MAX_SET_CHARACTERS:
            raise ConfigError(f"setting: expected path.to.field=value, got {shown(setting)}")
        value = value_of(text.strip())
        places = list(_places(document, names))
        if not places:
            raise ConfigError(f"{plain(field)}: expected a table with names in it where the * is, got none")
        for place in places:
            document = laid_upon(document, _nested(place, value))
    return document


def _places(table: object, names: Sequence[str], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths that one with stars stands for."""
    if not names:
        yield before
        return
    inside = table if isinstance(table, dict) else {}
    if before == ("devices",) and names[0] != "*" and names[0] not in inside:
        raise ConfigError(f"{path(['devices', names[0]])}: {unknown(names[0], inside)}")
    for name in inside if names[0] == "*" else names[:1]:
        yield from _places(inside.get(name), names[1:], (*before, name))


def _nested(place: Sequence[str], value: object) -> Document:
    for name in reversed(place):
        value = {name: value}
    return value if isinstance(value, dict) else {}


def with_profiles(document: Document) -> Document:
    """Return a document in which what profiles give lies beneath what is given.

    Raises:
        ConfigError: there is no such profile.
    """
    full = dict(document)
    for name, table in _tables(full, "devices"):
        if "link" in table:
            table["link"] = _named(Kind.LINKS, table["link"], ("devices", name, "link"))
        full["devices"][name] = _profiled(Kind.DEVICES, table, ("devices", name))
    for name, table in _tables(full, "workloads", named=True):
        full["workloads"][name] = _named(Kind.WORKLOADS, table, ("workloads", name))
    if isinstance(full.get("verifiers"), dict):
        full["verifiers"] = _profiled(Kind.VERIFIERS, full["verifiers"], ("verifiers",))
    return full


def _tables(document: Document, part: str, *, named: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield copies of the tables of a part, in a copy of it; what is no table is left for the model to refuse."""
    if not isinstance(document.get(part), dict):
        return
    document[part] = dict(document[part])
    for name, table in list(document[part].items()):
        if isinstance(table, dict):
            yield name, dict(table)
        elif named:
            yield name, table


def _named(kind: Kind, given: object, place: tuple[str, ...]) -> object:
    """Return a table that may also be a profile's name, and in which ``profile`` is no field of its own."""
    table = {"profile": given} if isinstance(given, str) else given
    if not isinstance(table, dict):
        return table
    full = _profiled(kind, table, place)
    full.pop("profile", None)
    return full


def _profiled(kind: Kind, table: Document, place: tuple[str, ...]) -> Document:
    name = table.get("profile")
    if name is None:
        return table
    try:
        return laid_upon(profile(kind, name).fields, table)
    except ConfigError as error:
        raise ConfigError(f"{path([*place, 'profile'])}: {error}") from None
