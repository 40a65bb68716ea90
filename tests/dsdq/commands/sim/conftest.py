"""`dsdq sim`, on a fleet that takes milliseconds."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from dsdq import cli
from dsdq.sim.scenario import to_toml
from tests.dsdq.sim.small import SMALL

ROOT = Path(__file__).parents[4]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
HERE = ("--jobs", "1")

Simulate = Callable[..., str]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the small scenario to a folder that is the working one."""
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(to_toml(SMALL))
    return "small.toml"


@pytest.fixture
def dsdq(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Simulate:
    """Return a function that runs a command and gives what it prints, or its one line of error.

    Commands are those that this tree declares, whatever is installed, and are shown on a narrow terminal.
    """

    def find(group: str) -> EntryPoints:
        return EntryPoints(EntryPoint(name, value, group) for name, value in DECLARED[group].items())

    monkeypatch.setattr(cli, "entry_points", find)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["dsdq", "sim", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        assert (left.value.code or 0) == code, said.err
        if code:
            assert said.err.count("\n") == 1
        return said.err if code else said.out

    return run


def read(file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(file).read_text())
    return found
