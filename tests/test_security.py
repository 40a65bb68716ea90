"""What SECURITY.md says is shown by a test is shown by one that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())


def test_every_test_that_is_named_exists() -> None:
    assert NAMED
    missing = []
    for file, name in NAMED:
        tree = ast.parse((ROOT / file).read_text())
        if not any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name for node in tree.body
        ):
            missing.append(f"{file}::{name}")
    assert missing == []
