"""Packages that only some uses need: they are asked for before anything is done, with what to install."""

from __future__ import annotations

from importlib.util import find_spec

from dsdq.errors import ConfigError


def require(package: str, asker: str, extra: str) -> None:
    """Return if a package is there that an ``asker`` (a command or flag) needs, which comes with an ``extra``.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec(package) is None:
        raise ConfigError(f"{asker}: expected {package} to be installed; install dsdq[{extra}]")
