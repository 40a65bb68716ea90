"""Who may import whom, read from every import in the tree."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "dsdq": {"workers", "producers"},
    "workers": {"producers"},
    "producers": {"workers"},
}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_imports_one_that_it_must_not_know(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(ROOT)): imports_of(f) & FORBIDDEN[room] for f in files}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    "module",
    [
        "dsdq",
        "dsdq.cli",
        "dsdq.wire",
        "dsdq.bus",
        "producers.device.over_redis",
        "producers.drafters",
        "dsdq.models.tokenizer",
        "producers.gateway.app",
    ],
)
def test_a_device_imports_this_without_torch(module: str) -> None:
    assert_free_of_torch(module)


@pytest.mark.parametrize("module", ["workers.verifier.command", "workers.verifier.service", "workers.verifier.step"])
def test_a_verifier_starts_without_torch_where_its_engine_needs_none(module: str) -> None:
    assert_free_of_torch(module)


def assert_free_of_torch(module: str) -> None:
    probe = f"import sys, {module}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
