"""What comes with dsdq: presets, and profiles of which every figure has its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from dsdq.errors import ConfigError
from dsdq.sim.scenario.documents import Document, read_document
from dsdq.sim.scenario.mistakes import shown, unknown

_PROFILES = Path(__file__).with_name("profiles")
_PRESETS = Path(__file__).with_name("presets")


class Kind(StrEnum):
    """What a profile gives fields of."""

    DEVICES = "devices"
    VERIFIERS = "verifiers"
    LINKS = "links"
    WORKLOADS = "workloads"


@dataclass(frozen=True, slots=True)
class Profile:
    """Fields of part of a scenario.

    Attributes:
        kind: of which part.
        about: one sentence.
        source: of each field, where its figures come from: a paper, a datasheet, or "estimate:" and how.
        fields: as the part's model names them.
    """

    kind: Kind
    about: str
    source: Mapping[str, str]
    fields: Document


@lru_cache(maxsize=1)
def profiles() -> Mapping[str, Profile]:
    """Return all profiles by name."""
    return {
        name: Profile(kind, table.pop("about"), table.pop("source"), table)
        for kind in Kind
        for name, table in read_document(_PROFILES / f"{kind}.toml").items()
    }


def profile(kind: Kind, name: object) -> Profile:
    """Return the profile of a name.

    Raises:
        ConfigError: there is none of this kind.
    """
    known = {one: found for one, found in profiles().items() if found.kind is kind}
    if not isinstance(name, str):
        raise ConfigError(f"expected the name of a profile, got {shown(name)}")
    if name not in known:
        raise ConfigError(_all_and_nearest(name, known))
    return known[name]


@lru_cache(maxsize=1)
def presets() -> Mapping[str, str]:
    """Return what each preset is about, by name."""
    return {file.stem: str(read_document(file)["about"]) for file in sorted(_PRESETS.glob("*.toml"))}


def preset_file(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in presets():
        raise ConfigError(_all_and_nearest(name, presets()))
    return _PRESETS / f"{name}.toml"


def _all_and_nearest(name: str, known: Mapping[str, object]) -> str:
    near = unknown(name, known).partition("; ")[2]
    return f"expected one of {', '.join(known)}, got {shown(name)}" + (f"; {near}" if near else "")
