"""Prompts for measurements: the built-in pair's own, or a file's."""

from __future__ import annotations

import json
from pathlib import Path

from dsdq.errors import PromptError
from dsdq.models.names import resolve


def builtin_prompts() -> list[str]:
    """Return the prompts that were kept apart when the built-in pair was trained."""
    return read_prompts(Path(resolve("builtin/target")).parent / "prompts.json")


def read_prompts(file: Path) -> list[str]:
    """Return the prompts of a file: of ``.json`` an array of strings, of any other each line that is not blank.

    Raises:
        PromptError: the file cannot be read, or holds no prompts.
    """
    try:
        text = file.read_text(encoding="utf-8")
        prompts = json.loads(text) if file.suffix == ".json" else [line for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        msg = f"prompts {str(file)!r}: expected a readable file, JSON in one that is named so: {error}"
        raise PromptError(msg) from error
    if not isinstance(prompts, list) or not prompts or not all(isinstance(one, str) and one for one in prompts):
        msg = f"prompts {str(file)!r}: expected an array of strings, or a prompt in each line, got something else"
        raise PromptError(msg)
    return prompts
