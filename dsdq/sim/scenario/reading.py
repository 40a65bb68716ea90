"""A scenario from a preset, or a file of TOML or YAML, and settings upon it.

What is given by a setting comes first, then what the file gives, then what the file's ``base`` gives, and last what
the profiles give that are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from dsdq.errors import ConfigError
from dsdq.sim.scenario.documents import SUFFIXES, Document, read_document
from dsdq.sim.scenario.layers import laid_upon, resolved, with_settings
from dsdq.sim.scenario.library import preset_file
from dsdq.sim.scenario.mistakes import of_file, shown, told
from dsdq.sim.scenario.model import Scenario

MAX_BASES = 8
"""Files that build on one another."""


def load_scenario(name_or_path: str, sets: Sequence[str] = ()) -> Scenario:
    """Return the scenario of a preset's name or of a file, with ``path.to.field=value`` settings upon it.

    A setting's value is TOML, or else text as it stands: ``window.policy=awc``, ``devices.*.link.rtt_ms=30``.

    Raises:
        ConfigError: one line: the scenario, the path of the field, what was expected, and what came.
    """
    try:
        document = _layered(_file(name_or_path, Path()))
        traced = _with_traces(with_settings(document, sets), Path())
        return resolved(traced, sets)
    except ValidationError as error:
        why = told(error, Scenario)
    except ConfigError as error:
        why = str(error)
    raise ConfigError(f"scenario {of_file(name_or_path)}: {why}")


def _file(named: str, folder: Path) -> Path:
    """Return the file of a preset, or the one at a path from ``folder``."""
    if named.lower().endswith(SUFFIXES) or "/" in named:
        return folder / named
    try:
        return preset_file(named)
    except ConfigError as error:
        raise ConfigError(f"{error} (a file's name ends in {', '.join(SUFFIXES)})") from None


def _layered(file: Path, left: int = MAX_BASES) -> Document:
    """Return a file's document upon that of its base, which may be upon another."""
    document = laid_upon({}, _with_traces(read_document(file), file.parent))
    document.setdefault("name", file.stem.lower().replace("_", "-"))
    base = document.pop("base", None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise ConfigError(f"base: expected a preset's name or a file, got {shown(base)}")
    if not left:
        raise ConfigError(f"base: expected at most {MAX_BASES} files that build on one another, got more")
    try:
        under = _layered(_file(base, file.parent), left - 1)
    except ConfigError as error:
        raise ConfigError(f"base: {str(error).removeprefix('base: ')}") from None
    return laid_upon(under, document)


def _with_traces(document: Document, folder: Path) -> Document:
    """Return a document whose traces' paths, which were from ``folder``, hold from anywhere."""
    found = dict(document)
    for part, holders in (("devices", ("arrivals",)), ("workloads", ("acceptance", "own_acceptance"))):
        tables = found.get(part)
        if isinstance(tables, dict):
            found[part] = {name: _absolute(table, holders, folder) for name, table in tables.items()}
    return found


def _absolute(table: object, holders: Sequence[str], folder: Path) -> object:
    if not isinstance(table, dict):
        return table
    full = dict(table)
    for name in holders:
        inner = full.get(name)
        if isinstance(inner, dict) and isinstance(inner.get("trace"), str):
            full[name] = {**inner, "trace": str((folder / inner["trace"]).absolute())}
    return full
