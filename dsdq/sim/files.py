"""Files that are read and written: what goes wrong with one is a line, with the option or word that named it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from dsdq.errors import ConfigError
from dsdq.extras import require
from dsdq.sim.scenario.mistakes import of_file

Write = Callable[[str], None]


def check(option: str, file: Path | None, suffixes: Sequence[str] = ()) -> None:
    """Return if a file may well be written, so that nothing is simulated for one that cannot.

    Raises:
        ConfigError: its folder is not there, its name ends otherwise, or what writes it is not installed.
    """
    if file is None:
        return
    if suffixes and file.suffix not in suffixes:
        raise ConfigError(f"{option}: expected a file that ends in {', '.join(suffixes)}, got {of_file(file.name)}")
    with writable(option, file):
        fits = file.parent.is_dir() and not file.is_dir()
    if not fits:
        raise ConfigError(f"{option}: expected a file in a folder that is there, got {of_file(file)}")
    if file.suffix == ".parquet":
        require("pyarrow", option, "sim")


def is_there(name: str, file: Path) -> bool:
    """Say whether there is a file to go on with.

    Raises:
        ConfigError: that cannot be known, or it is something else.
    """
    with readable(name, file):
        there, fits = file.exists(), file.is_file()
    if there and not fits:
        raise ConfigError(f"{name} {of_file(file)}: expected a file that can be read again, got another thing")
    return there


def whole_lines(name: str, file: Path, begins: bytes) -> list[bytes]:
    """Return the lines of a file that is to be gone on with, none if there is no file; cut off a last one that is torn.

    Each ``begins`` alike: that tells one that was torn from what is somebody else's.

    Raises:
        ConfigError: it cannot be read or cut, or ends in something else.
    """
    if not is_there(name, file):
        return []
    with readable(name, file):
        content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    torn = content[whole:]
    if not torn.startswith(begins[: len(torn)]):
        expected = f"expected a last line that begins with {begins.decode()}"
        raise ConfigError(f"{name} {of_file(file)}: {expected}, got something else; give another file")
    if torn:
        with writable(name, file):
            os.truncate(file, whole)
    return content[:whole].splitlines()


def readable(name: str, file: Path) -> AbstractContextManager[None]:
    """Run a block that does nothing but read a file.

    Raises:
        ConfigError: the file cannot be read.
    """
    return _fit(name, file, "read")


def writable(name: str, file: Path) -> AbstractContextManager[None]:
    """Run a block that does nothing but write a file, or ask whether it may be.

    Raises:
        ConfigError: the file cannot be written.
    """
    return _fit(name, file, "written")


def read_json(name: str, file: Path, expected: str) -> dict[str, Any]:
    """Return the table of a JSON file; ``expected`` says what of.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    with readable(name, file):
        content = file.read_bytes()
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ConfigError(f"{name} {of_file(file)}: expected {expected}, got something else") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{name} {of_file(file)}: expected {expected}, got a {type(found).__name__}")
    return found


def write_text(name: str, file: Path, text: str) -> None:
    """Write a file as a whole.

    Raises:
        ConfigError: it cannot be written.
    """
    write_bytes(name, file, text.encode())


def write_bytes(name: str, file: Path, content: bytes) -> None:
    """Write a file as a whole.

    Raises:
        ConfigError: it cannot be written.
    """
    with writable(name, file):
        file.write_bytes(content)


@contextmanager
def lines(name: str, file: Path, *, append: bool = False) -> Iterator[Write]:
    """Give a function that writes a line; a line behind those of before is in the file at once.

    Raises:
        ConfigError: the file cannot be written; what else goes wrong in the block is not taken for that.
    """
    with writable(name, file):
        stream = file.open("a" if append else "w", encoding="utf-8", buffering=1 if append else -1)

    def _write(line: str) -> None:
        try:  # no block of its own: there may be a million lines
            stream.write(line + "\n")
        except OSError as error:
            raise _unfit(name, file, "written", error) from None

    try:
        yield _write
    finally:
        with writable(name, file):
            stream.close()


@contextmanager
def _fit(name: str, file: Path, done: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise _unfit(name, file, done, error) from None


def _unfit(name: str, file: Path, done: str, error: OSError | ValueError) -> ConfigError:
    why = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
    return ConfigError(f"{name} {of_file(file)}: expected a file that can be {done}, got: {why}")
