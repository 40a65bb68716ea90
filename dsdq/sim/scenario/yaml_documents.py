"""YAML by PyYAML's safe loader, without what makes a small file large, or one key mean two things."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

from dsdq.errors import ConfigError
from dsdq.sim.scenario.mistakes import plain, shown

MAX_DEPTH = 64
"""Lists and tables within one another."""

MAX_VALUES = 100_000
"""Names and values in all: PyYAML makes some ten thousand a second."""

# What the safe loader raises, beside its own errors, for tags whose text is not of their kind.
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


class _Loader(SafeLoader):
    """The safe loader, but a key that comes twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        """See PyYAML; fields have names, and each comes once."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        seen: set[Hashable] = set()
        for key in keys:
            if not isinstance(key, str):
                raise ConfigError(f"expected fields with names, got {shown(key)} as a name")
            if key in seen:
                raise ConfigError(f"expected every field once, got {shown(key)} twice in one table")
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(text: str) -> object:
    """Return what a YAML document says.

    Raises:
        ConfigError: it is not YAML, has a field twice, or uses aliases: a few lines of them stand for billions of
            values.
    """
    try:
        _bounded(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except _NOT_YAML as error:
        raise ConfigError(f"expected YAML, got {_why(error)}") from None


def _bounded(text: str) -> None:
    """Return if a document is small when it is read: as it comes, since the parser takes long over deep nesting."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError("expected YAML without aliases (*name), got one")
        values += isinstance(event, yaml.ScalarEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"expected lists and tables at most {MAX_DEPTH} deep, got more")
        if values > MAX_VALUES:
            raise ConfigError(f"expected at most {MAX_VALUES:,} names and values, got more; TOML may have more")


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "lists or tables that are too deep"
    mark = getattr(error, "problem_mark", None)
    where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return plain(str(getattr(error, "problem", None) or "a value that is not of its tag's kind")) + where
