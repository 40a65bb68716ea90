"""The card of trained weights: what they are of, how good they are, and how to make them again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dsdq.policies.window.ways import CORRECTIONS, FEATURES, WAYS

_VERSIONS = ("dsdq", "numpy", "torch", "safetensors")


def card(
    files: Mapping[str, Path], recipe: Mapping[str, Any], losses: Mapping[str, Any], gaps: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the card.

    Args:
        files: weights, by the policy that they are for.
        recipe: what was asked for: the numbers of worlds, seeds, sizes and courses.
        losses: of training, in the beginning and at the end.
        gaps: what evaluation came to.
    """
    return {
        "policies": {name: described(path) for name, path in files.items()},
        "features": list(FEATURES),
        "corrections": list(CORRECTIONS),
        "ways": len(WAYS),
        "recipe": dict(recipe),
        "losses": dict(losses),
        "gap_to_oracle": dict(gaps),
        "versions": {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()},
        "repeat": f"dsdq sim awc-train --scenarios {recipe['scenarios']} --seed {recipe['seed']}"
        + (" --quick" if recipe["quick"] else ""),
    }


def described(path: Path) -> dict[str, Any]:
    """Return a file's name, size and hash."""
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": sha256(content).hexdigest()}
