"""The command line takes its subcommands, and groups of them, from entry points."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dsdq import cli

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["dsdq.commands"]


def use(monkeypatch: pytest.MonkeyPatch, **declared: str) -> None:
    found = [EntryPoint(name, value, "dsdq.commands") for name, value in declared.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == "dsdq.commands" else [])


@pytest.mark.parametrize("name", DECLARED)
def test_every_declared_command_is_a_function_or_a_group(name: str) -> None:
    part = EntryPoint(name, DECLARED[name], "dsdq.commands").load()
    assert isinstance(part, typer.Typer) or callable(part)


def test_a_group_stands_beside_plain_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, keys=DECLARED["keys"], models=DECLARED["models"])
    listed = CliRunner().invoke(cli.build(), ["--help"])
    assert "keys" in listed.stdout
    assert "models" in listed.stdout
    assert CliRunner().invoke(cli.build(), ["keys", "new"]).exit_code == 0


@pytest.mark.parametrize("arguments", [["keys", "nonsense"], ["keys", "producer"]])
def test_bad_input_to_a_group_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    use(monkeypatch, keys=DECLARED["keys"])
    monkeypatch.setattr("sys.argv", ["dsdq", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_command_that_is_named_is_imported_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, models=DECLARED["models"], broken="no_such_module:command")
    assert CliRunner().invoke(cli.build(["models", "--json"]), ["models", "--json"]).exit_code == 0
    for arguments in ([], ["--help"], ["nonsense", "models"]):
        with pytest.raises(ModuleNotFoundError):
            cli.build(arguments)
