"""`dsdq sim run`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dsdq.sim.scenario import to_toml
from dsdq.sim.scenario.model import Scenario
from tests.dsdq.commands.sim.conftest import HERE, Simulate, read
from tests.dsdq.sim.small import SMALL


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
    failing = ("--set", "verifiers.failures_per_hour=1000", "--set", "verifiers.count=2", "--set", "duration_s=8")
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


def test_a_table_ends_as_its_option_says(dsdq: Simulate, fleet: str) -> None:
    pytest.importorskip("pyarrow", reason="needs dsdq[sim]")
    dsdq("run", fleet, "--no-baselines", *HERE, "--csv", "a.csv", "--parquet", "a.parquet")
    assert Path("a.parquet").read_bytes().startswith(b"PAR1")
    assert Path("a.csv").read_text().startswith("way,seed,")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nonsense",), "expected one of campus-wifi"),
        (("small.toml", "--set", "window.policy=nonsense"), "window.policy"),
        (
            ("small.toml", "--set", "devices.tablets.count=3"),
            "scenario small.toml: devices.tablets: expected one of phones",
        ),
        (("small.toml", "--objective", "beauty"), "--objective"),
        (("small.toml", "--objective", "ttft_ms", "--no-baselines"), "none beside --no-baselines"),
        (("small.toml", "--json", "none/a.json"), "--json"),
        (("small.toml", "--csv", "a.parquet"), "--csv: expected a file that ends in .csv"),
        (("small.toml", "--requests", "rows.xml"), "--requests"),
    ],
)
@pytest.mark.usefixtures("fleet")
def test_bad_input_is_one_line_and_exit_code_2(dsdq: Simulate, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in dsdq("run", *arguments, code=2)


@pytest.mark.parametrize("option", ["--events", "--json"])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_full_disk_is_one_line(dsdq: Simulate, fleet: str, full: Path, option: str, jobs: str) -> None:
    arguments = ("--no-baselines", "--seeds", "2", "--jobs", jobs, option, str(full))
    assert f"{option} {full}: expected a file that can be written" in dsdq("run", fleet, *arguments, code=2)


@pytest.mark.parametrize("option", ["--parquet", "--requests"])
@pytest.mark.usefixtures("fleet", "bare")
def test_what_is_not_installed_is_told_before_anything_is_simulated(dsdq: Simulate, option: str) -> None:
    assert "install dsdq[sim]" in dsdq("run", "small.toml", option, "a.parquet", code=2)
