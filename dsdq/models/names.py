"""What a model's name stands for: the built-in pair, a local folder, or a repository on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from dsdq.errors import ModelError

BUILTIN_PREFIX = "builtin/"
BUILTIN_NAMES = ("builtin/target", "builtin/draft")
HASH_TARGET = "testing/hash"
"""A target without weights; see :mod:`dsdq.testing.hashed`."""

_BUILTIN_FOLDER = Path(__file__).parent / "builtin"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve(name: str) -> Path | str:
    """Return the folder that ``name`` stands for, or ``name`` itself when it can only be a hub repository.

    Nothing is loaded or downloaded here.

    Raises:
        ModelError: the built-in model is unknown or not installed, a path does not exist or is no model's folder, or
            the name could be neither a path nor a hub name.
    """
    if name.startswith(BUILTIN_PREFIX):
        return _builtin(name)
    if name == HASH_TARGET:
        msg = f"model {name!r}: expected a model with weights; this one is a target only, and hash:0.8 drafts for it"
        raise ModelError(msg)
    path = Path(name).expanduser()
    if path.is_dir():
        return _model_folder(path)
    if path.exists():
        msg = f"model {name!r}: expected a folder with config.json and weights, got a file; name the folder it lies in"
        raise ModelError(msg)
    if _HUB_NAME.fullmatch(name) is None:
        msg = (
            f"model {name!r}: no such folder; expected one of {', '.join(BUILTIN_NAMES)}, an existing folder, "
            "or a hub name such as 'organisation/model'"
        )
        raise ModelError(msg)
    return name


def tokenizer_of(name: str) -> str:
    """Return the model that a model's tokenizer lies with: itself, but for the hash model, which has no files."""
    return "builtin/target" if name == HASH_TARGET else name


def _builtin(name: str) -> Path:
    if name not in BUILTIN_NAMES:
        msg = f"model {name!r}: there is no such built-in model; expected one of {', '.join(BUILTIN_NAMES)}"
        raise ModelError(msg)
    folder = _BUILTIN_FOLDER / name.removeprefix(BUILTIN_PREFIX)
    if not (folder / "config.json").is_file():
        msg = f"model {name!r}: its files are not installed; install dsdq from a wheel, or make them with `make pair`"
        raise ModelError(msg)
    return folder


def _model_folder(path: Path) -> Path:
    if not (path / "config.json").is_file() and not (path / "tokenizer.json").is_file():
        msg = f"model {str(path)!r}: expected a folder with config.json and tokenizer.json, found neither"
        raise ModelError(msg)
    return path
