"""How a scenario is put together: files on their base, settings on files, and profiles beneath what is given.

Tables are merged field by field, with these exceptions. ``arrivals`` are alternatives, so that one given replaces one
that was; so are a mean acceptance, one by place and one from a trace, and a link's round trip and its trace. A link or
a workload may be the name of a profile, which replaces a table that was, and which a table of fields is laid upon. A
profile of devices or verifiers replaces what was there before of the fields that it gives, and what the profile gave
that was named before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dsdq.errors import ConfigError
from dsdq.sim.scenario.documents import Document, value_of
from dsdq.sim.scenario.library import Kind, profile, profiles
from dsdq.sim.scenario.mistakes import path, plain, shown, unknown
from dsdq.sim.scenario.model import Arrivals, Scenario
from dsdq.sim.scenario.workload import Acceptance

MAX_DEPTH = 16
"""Names in the path of a field."""

MAX_SET_CHARACTERS = 10_000

Instead = Mapping[str, frozenset[str]]
"""Of a table: which fields one that is given stands instead of."""


def _instead(given: Iterable[str], of: Iterable[str]) -> Instead:
    """Let each of some fields stand instead of all of others."""
    return {name: frozenset(of) - {name} for name in given}


_WHOLE = {Kind.LINKS, Kind.WORKLOADS}
"""Profiles that say all there is to say of a table."""

_NOTHING: tuple[object, ...] = (None, [])
_ALONE, _ROUND_TRIP = ("by_place", "trace"), ("rtt_ms", "trace")
_ACCEPTANCE = {**_instead(_ALONE, Acceptance.model_fields), **_instead(["mean"], _ALONE)}
_ALTERNATIVES: Mapping[str, Instead] = {
    "acceptance": _ACCEPTANCE,
    "arrivals": _instead(Arrivals.model_fields, Arrivals.model_fields),
    "link": _instead(_ROUND_TRIP, _ROUND_TRIP),
    "own_acceptance": _ACCEPTANCE,
}


def laid_upon(under: Document, over: Document) -> Document:
    """Return a document with what ``over`` gives, and what ``under`` gives where ``over`` does not.

    A value that is null is not given.
    """
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, str):
            below = {"profile": below}
        if isinstance(value, dict):
            merged[key] = laid_upon(_left(key, below, value) if isinstance(below, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def _left(key: str, below: Document, over: Document) -> Document:
    """Return what of a table still counts beneath one that is laid upon it."""
    instead = _ALTERNATIVES.get(key, {})
    replaced = {name for given, value in over.items() if value not in _NOTHING for name in instead.get(given, ())}
    left = {name: value for name, value in below.items() if name not in replaced}
    named, before = (profiles().get(str(table.get("profile"))) for table in (over, below))
    if named is None:
        return left
    if named.kind in _WHOLE:
        return {}
    old = {} if before is None else before.fields
    return {
        name: value
        for name, value in left.items()
        if name not in named.fields and not (name in old and _says(value, old[name]))
    }


def _says(value: object, given: object) -> bool:
    """Say whether a value is one that was given, though tables may say more by now."""
    if isinstance(value, dict) and isinstance(given, dict):
        return all(name in value and _says(value[name], one) for name, one in given.items())
    return value == given


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


def resolved(document: Document, settings: Sequence[str]) -> Scenario:
    """Return the scenario of a document upon which settings lie already, with what profiles give.

    Raises:
        ConfigError: there is no such profile, or a setting would change nothing.
        ValidationError: that is no scenario.
    """
    scenario = Scenario.model_validate(with_profiles(document))
    _check_used(scenario, settings)
    return scenario


def _check_used(scenario: Scenario, settings: Sequence[str]) -> None:
    """Return if no setting is of a workload that no devices have, or of a tenant that nobody is.

    Raises:
        ConfigError: one is, so that it would change nothing.
    """
    devices = scenario.devices.values()
    used = {"workloads": {one.workload for one in devices}}
    if not any(one.arrivals.trace for one in devices):  # whose requests are any tenant's
        used["tenants"] = {one.tenant for one in devices}
    for setting in settings:
        part, name, *_ = (*setting.partition("=")[0].strip().split("."), "*")
        if name not in used.get(part, {name}) | {"*"}:
            expected = f"expected one that devices have ({', '.join(sorted(used[part]))}), got another"
            raise ConfigError(f"{path([part, name])}: {expected}")


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
        fields = profile(kind, name).fields
    except ConfigError as error:
        raise ConfigError(f"{path([*place, 'profile'])}: {error}") from None
    given, key = {field: value for field, value in table.items() if field != "profile"}, place[-1]
    return {**laid_upon({key: fields}, {key: given})[key], "profile": name}
