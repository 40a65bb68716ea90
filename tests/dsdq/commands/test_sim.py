"""`dsdq sim`, on a fleet that takes milliseconds."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dsdq import cli, extras
from dsdq.sim.baselines import ASSUMED_DRAFT
from dsdq.sim.plan import KEPT_WINDOW
from dsdq.sim.scenario import presets, profiles, to_toml
from dsdq.sim.scenario.model import Scenario
from tests.dsdq.sim.small import SMALL

ROOT = Path(__file__).parents[3]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
HERE = ("--jobs", "1")

Simulate = Callable[..., str]


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find commands as this tree declares them, whatever is installed; show them on a narrow terminal."""

    def find(group: str) -> EntryPoints:
        return EntryPoints(EntryPoint(name, value, group) for name, value in DECLARED[group].items())

    monkeypatch.setattr(cli, "entry_points", find)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the small scenario to a folder that is the working one."""
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(to_toml(SMALL))
    return "small.toml"


@pytest.fixture
def dsdq(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Simulate:
    """Return a function that runs a command and gives what it prints, or its one line of error."""

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


def test_a_run_stands_beside_its_baselines(dsdq: Simulate, fleet: str) -> None:
    files = ("--json", "a.json", "--csv", "a.csv", "--requests", "rows.jsonl", "--events", "events.jsonl")
    said = dsdq("run", fleet, "--seeds", "2", *HERE, *files)
    table = said[: said.index("windows")].splitlines()
    assert max(map(len, table)) <= 80
    assert table[1].split() == ["distributed", "target-only", "co-located", "oracle"]
    for row in ("TTFT, ms", "TPOT, ms", "end to end, ms", "tokens/s", "goodput", "acceptance", "fairness"):
        assert any(line.startswith(row) for line in table)
    found = read("a.json")
    assert list(found["ways"]) == table[1].split()
    assert (found["kind"], found["seeds"]) == ("run", [1, 2])
    assert Scenario.model_validate(found["scenario"]) == SMALL
    assert found["ways"]["oracle"]["figures"]["e2e_ms"] <= found["ways"]["distributed"]["figures"]["e2e_ms"]
    assert f"blake2b {found['events']}" in said
    assert "no drafter" in said
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert [(row["way"], row["seed"]) for row in rows[:3]] == [
        ("distributed", "1"),
        ("distributed", "2"),
        ("target-only", "1"),
    ]
    requests = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert {row["seed"] for row in requests} == {1, 2}
    assert sum(row["seed"] == 1 for row in requests) == found["ways"]["distributed"]["each"]["requests"][0]


def test_what_went_wrong_is_shown_where_it_did(dsdq: Simulate, fleet: str) -> None:
    failing = ("--set", "verifiers.failures_per_hour=3000", "--set", "verifiers.count=2")
    said = dsdq("run", fleet, "--no-baselines", *HERE, *failing)
    rows = {"sessions taken over", "verifiers failed"}
    assert {row for row in rows if row in said} == rows
    assert "requests refused" not in said
    assert not any(row in dsdq("run", fleet, "--no-baselines", *HERE) for row in rows)


def test_a_run_can_be_repeated_from_what_it_wrote(dsdq: Simulate, fleet: str) -> None:
    options = ("--no-baselines", *HERE, "--json")
    said = dsdq("run", fleet, "--set", "seed=9", "--set", "devices.*.link.rtt_ms=45", *options, "a.json")
    assert list(read("a.json")["ways"]) == ["distributed"]
    Path("again.toml").write_text(to_toml(Scenario.model_validate(read("a.json")["scenario"])))
    assert dsdq("run", "again.toml", *options, "b.json") == said
    assert read("a.json") == read("b.json")


def test_a_comparison_says_what_can_be_told_apart(dsdq: Simulate, fleet: str) -> None:
    variants = ("--variant", "near=", "--variant", "far=devices.*.link.rtt_ms=60", "--variant", "also=")
    said = dsdq("compare", fleet, *variants, "--seeds", "3", *HERE, "--json", "a.json")
    assert "far against near" in said
    assert "not told apart" in said
    assert max(map(len, said[said.index("far against") :].splitlines())) <= 80
    found = read("a.json")
    assert found["differences"]["far"]["e2e_ms"]["told_apart"]
    assert found["differences"]["also"]["e2e_ms"] == {
        "difference": 0,
        "interval": [0, 0],
        "ratio": 1,
        "ratio_interval": [1, 1],
        "told_apart": False,
    }


def test_a_plan_answers_with_numbers(dsdq: Simulate, fleet: str) -> None:
    options = ("--set", "duration_s=1", "--set", "verifiers.per_hour=2", "--seeds", "1", "--devices", "2", *HERE)
    said = dsdq("plan", fleet, *options, "--json", "a.json")
    found = read("a.json")
    assert {name: one["count"] for name, one in found["verifiers"].items()} == {
        "distributed": 1,
        "target-only": 1,
        "co-located": 1,
    }
    assert found["scenario"]["devices"]["phones"]["count"] == 2
    end = found["break_even"]["rtt_ms"]["target-only"]
    assert 5 < end["value"] < 40
    assert f"than target-only: up to a round trip of {end['value']:g} ms (EUR" in said
    assert re.search(r"co-located: (nowhere|up to)", said)
    assert re.search(r"distributed +1 +100\.0% ", said)
    assert f"co-located: {KEPT_WINDOW}; {ASSUMED_DRAFT}\n" in said


def test_a_sweep_is_one_table_and_goes_on(dsdq: Simulate, fleet: str) -> None:
    vary = ("--vary", "window.policy=static:1,static:4", "--vary", "devices.*.link.rtt_ms=10,60")
    said = dsdq("sweep", fleet, *vary, *HERE, "--json", "a.json")
    assert [line.split()[:2] for line in said.splitlines()[2:6]] == [
        ["static:1", "10"],
        ["static:1", "60"],
        ["static:4", "10"],
        ["static:4", "60"],
    ]
    cells = Path("sweep-small.jsonl").read_text()
    assert dsdq("sweep", fleet, *vary, *HERE, "--json", "b.json") == said
    assert Path("sweep-small.jsonl").read_text() == cells
    assert read("a.json") == read("b.json")
    assert len(read("a.json")["ways"]) == 4


def test_a_result_is_drawn(dsdq: Simulate, fleet: str) -> None:
    dsdq("run", fleet, "--no-baselines", *HERE, "--json", "a.json")
    assert dsdq("plot", "a.json").strip() == "a.png"
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_all_presets_and_profiles_are_listed(dsdq: Simulate) -> None:
    said = dsdq("list")
    assert [name for name in (*presets(), *profiles()) if name not in said] == []
    assert "arXiv 2511.21669" in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "nonsense"), "expected one of campus-wifi"),
        (("run", "small.toml", "--set", "window.policy=nonsense"), "window.policy"),
        (("run", "small.toml", "--objective", "beauty"), "--objective"),
        (("run", "small.toml", "--json", "none/a.json"), "--json"),
        (("run", "small.toml", "--requests", "rows.xml"), "--requests"),
        (("compare", "small.toml", "--variant", "a="), "at least two"),
        (("compare", "small.toml", "--variant", "a=", "--variant", "b=", "--seeds", "1"), "--seeds"),
        (("plan", "small.toml", "--set", "way=target-only"), "way: expected distributed"),
        (("sweep", "small.toml", "--vary", "duration_s"), "--vary"),
        (("sweep", "small.toml", "--vary", "seed=1,2"), "--seeds"),
        (("sweep", "small.toml", "--ray-address", "localhost:1"), "--on ray"),
        (("sweep", "small.toml", "--results", "small.toml"), "line 1"),
        (("plot", "nowhere.json"), "nowhere.json"),
        (("plot", "small.toml"), "small.toml"),
    ],
)
@pytest.mark.usefixtures("fleet")
def test_bad_input_is_one_line_and_exit_code_2(dsdq: Simulate, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in dsdq(*arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("sweep", "small.toml", "--on", "ray"), "dsdq[ray]"),
        (("run", "small.toml", "--parquet", "a.parquet"), "dsdq[sim]"),
        (("run", "small.toml", "--requests", "a.parquet"), "dsdq[sim]"),
        (("plot", "small.toml"), "dsdq[sim]"),
    ],
)
@pytest.mark.usefixtures("fleet")
def test_what_is_not_installed_is_told_before_anything_is_simulated(
    dsdq: Simulate, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], extra: str
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    assert f"install {extra}" in dsdq(*arguments, code=2)


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start the command as a real process."""
    begin = "import sys; from dsdq.commands.sim import sim; sim(sys.argv[1:])"
    command = [sys.executable, "-c", begin, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_sweep_whose_process_is_killed_loses_only_what_was_running(dsdq: Simulate, fleet: str) -> None:
    """Kill a real process with two others that simulate, behind its first cells."""
    vary = ("--vary", "verifiers.step_ms=" + ",".join(map(str, range(20, 60))), "--set", "duration_s=10")
    cells = Path("cells.jsonl")
    process = started("sweep", fleet, *vary, "--jobs", "2", "--results", str(cells))
    until = time.monotonic() + 60
    while time.monotonic() < until and (not cells.exists() or cells.read_bytes().count(b"\n") < 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # ends once no process of it holds its output: they have ended, too
    kept = cells.read_bytes()
    assert 3 <= kept.count(b"\n") < 40
    dsdq("sweep", fleet, *vary, *HERE, "--results", str(cells), "--json", "a.json")
    assert cells.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    assert cells.read_bytes().count(b"\n") == len(read("a.json")["ways"]) == 40


@pytest.mark.skipif(find_spec("ray") is None, reason="needs dsdq[ray]")
def test_a_ray_cluster_finds_what_this_process_does(dsdq: Simulate, fleet: str) -> None:
    vary = ("--vary", "window.policy=static:1,static:4", "--seeds", "2")
    dsdq("sweep", fleet, *vary, *HERE, "--results", "here.jsonl", "--json", "here.json")
    ray = started("sweep", fleet, *vary, "--on", "ray", "--jobs", "2", "--results", "ray.jsonl", "--json", "ray.json")
    _, said = ray.communicate()
    assert ray.returncode == 0, said
    assert read("ray.json") == read("here.json")
    assert "cluster that can be reached" in dsdq("sweep", fleet, "--on", "ray", "--ray-address", "localhost:1", code=2)
    assert "host:port" in dsdq("sweep", fleet, "--on", "ray", "--ray-address", "nowhere", code=2)
