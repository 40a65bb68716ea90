"""The text: the standard library of the running interpreter (PSF licence), and which files of it are held out."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

EXCLUDED = (
    "site-packages/",
    "encodings/",
    "lib2to3/tests/data/",
    "idlelib/idle_test/",
    "pip/",
    "bad_coding",
    "badsyntax",
)
SMALLEST_BYTES = 400
MOST_DIGITS = 0.15  # tables of numbers teach nothing about code
HELD_OUT_ONE_IN = 50


def library() -> Path:
    """Where the standard library of this interpreter lies."""
    return Path(sysconfig.get_paths()["stdlib"])


def is_held_out(path: str) -> bool:
    """Whether a file, named relative to the library, is kept apart: its name alone decides."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big") % HELD_OUT_ONE_IN == 0


def texts(*, held_out: bool) -> Iterator[str]:
    """Give the text of each file of one side of the split, in the order of the names."""
    root = library()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if any(part in name for part in EXCLUDED) or is_held_out(name) is not held_out:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        digits = sum(character.isdigit() for character in text)
        if len(text) >= SMALLEST_BYTES and digits <= MOST_DIGITS * len(text):
            yield text
