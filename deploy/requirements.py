"""Print what dsdq and some of its extras need, a line each: ``requirements.py pyproject.toml EXTRA ...``.

An image that installs this before dsdq keeps it while only dsdq changes.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Return the dependencies that a project names for itself and for ``extras``, also those that extras share."""
    project = tomllib.loads(pyproject.read_text())["project"]
    own = re.compile(rf"{project['name']}\[([\w, -]+)\]")
    found, left, seen = set(project["dependencies"]), list(extras), set[str]()
    while left:
        extra = left.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for one in project["optional-dependencies"][extra]:
            shared = own.fullmatch(one)
            if shared:
                left += [name.strip() for name in shared[1].split(",")]
            else:
                found.add(one)
    return sorted(found)


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path(sys.argv[1]), sys.argv[2:])) + "\n")
