"""Documents of TOML or YAML as tables: bounded, and nothing in them hangs or runs anything."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from dsdq.errors import ConfigError
from dsdq.sim.scenario.mistakes import plain, shown

Document = dict[str, Any]

MAX_BYTES = 1_000_000
MAX_DOTS = 64
"""Python's TOML reader takes time that grows with the square of a key's dots: 16,000 take three seconds."""

SUFFIXES = (".toml", ".yaml", ".yml")

_BETWEEN_KEYS = re.compile(r"[\n=\[{,]")


def read_document(file: Path) -> Document:
    """Return the document of a file; what it is written in is told by the file's name.

    Raises:
        ConfigError: it cannot be read, is too large, or is no table; one line, without the file's name.
    """
    text = _text(file)
    found = _yaml(text) if file.suffix.lower() in {".yaml", ".yml"} else _toml(text)
    if not isinstance(found, dict):
        raise ConfigError(f"expected a table of fields, got {shown(found)}")
    return found


def value_of(text: str) -> object:
    """Return the value that a TOML document would have for ``text``; text itself where it would have none."""
    try:
        found = _toml(f"value = {text}\n")
    except ConfigError:
        return text
    return found["value"] if found.keys() == {"value"} else text


def _text(file: Path) -> str:
    if file.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"expected a file that ends in {', '.join(SUFFIXES)}, got {plain(file.name)}")
    try:
        with file.open("rb") as stream:
            found = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"expected a file that can be read, got: {why}") from None
    if len(found) > MAX_BYTES:
        raise ConfigError(f"expected at most {MAX_BYTES:,} bytes, got more")
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"expected UTF-8, got another byte at {error.start:,}") from None


def _toml(text: str) -> Document:
    if any(key.count(".") > MAX_DOTS for key in _BETWEEN_KEYS.split(text)):
        raise ConfigError(f"expected TOML with at most {MAX_DOTS} dots in a key or value, got more")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError("expected TOML, got lists or tables that are too deep") from None
    except ValueError as error:  # also what int() says of too many digits
        raise ConfigError(f"expected TOML, got: {plain(str(error))}") from None


def _yaml(text: str) -> object:
    try:
        from dsdq.sim.scenario.yaml_documents import load  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError("expected PyYAML to be installed for YAML; install dsdq[sim], or write TOML") from None
    return load(text)
