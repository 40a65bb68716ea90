from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsdq.commands.sim import sim
from dsdq.errors import ConfigError
from dsdq.sim.observed import append_observed, read_observed
from dsdq.sim.run import simulate
from dsdq.sim.scenario import load_scenario
from dsdq.sim.scenario.traces import read_traces
from tests.dsdq.sim.observing import observed
from tests.dsdq.sim.test_calibrate import WORLD


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "trace.jsonl"
    for text in observed(WORLD, "static:4:1", 20.0)[:4]:
        append_observed(file, text)
    return file


def test_a_trace_becomes_a_scenario_that_can_be_run(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.toml"
    done = CliRunner().invoke(sim, ["calibrate", str(trace), "--out", str(out)])
    assert (done.exit_code, done.stdout) == (0, "")
    scenario = load_scenario(str(out), ["window.policy=static:4:2"])
    assert scenario.devices["live"].draft_ms == pytest.approx(2.5)
    assert scenario.window.policy == "static:4:2"
    assert out.read_text().startswith("# 4 texts of 480 tokens\n")


def test_what_ran_can_be_simulated_again_request_by_request(trace: Path, tmp_path: Path) -> None:
    texts = read_observed(trace)
    late = tmp_path / "late.jsonl"
    append_observed(late, *(one.model_copy(update={"began_s": 90.0 * place}) for place, one in enumerate(texts)))
    out, asked, right = (str(tmp_path / name) for name in ("found.toml", "asked.jsonl", "right.jsonl"))
    ways = ["--out", out, "--arrivals", asked, "--recordings", right]
    done = CliRunner().invoke(sim, ["calibrate", str(late), *ways])
    assert done.exit_code == 0, done.stdout
    again = simulate(scenario := load_scenario(out), traces=read_traces(scenario))
    assert [(one.prompt, one.output) for one in again.requests] == [(one.prompt, one.tokens) for one in texts]
    assert [one.arrival_ms for one in again.requests] == [0, 90_000, 180_000, 270_000]
    for one, text in zip(again.requests, texts, strict=True):
        assert one.accepted == pytest.approx(text.accepted, rel=0.05)


def test_nothing_is_written_where_something_else_is_read_or_written(trace: Path, tmp_path: Path) -> None:
    before, other = trace.read_text(), str(tmp_path / "other.jsonl")
    for ways, first in ((["--recordings", str(trace)], "TRACE"), (["--out", other, "--arrivals", other], "--out")):
        done = CliRunner().invoke(sim, ["calibrate", str(trace), *ways])
        assert isinstance(done.exception, ConfigError)
        assert f"expected another file than that of {first}" in str(done.exception)
    assert trace.read_text() == before
    assert not Path(other).exists()


def test_without_a_file_it_is_printed(trace: Path) -> None:
    done = CliRunner().invoke(sim, ["calibrate", str(trace)])
    assert "[verifiers]" in done.stdout


def test_steps_may_come_from_the_engine_benchmark(trace: Path, tmp_path: Path) -> None:
    engine = tmp_path / "engine.json"
    engine.write_text(json.dumps({"ms": {"1x1": {"step": 10.0}, "1x5": {"step": 14.0}, "4x5": {"step": 29.0}}}))
    done = CliRunner().invoke(sim, ["calibrate", str(trace), "--engine", str(engine)])
    assert "step_ms = 9.0" in done.stdout
    assert "steps: 3 passes" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["calibrate", "no/such.jsonl"], "no/such.jsonl"),
        (["calibrate", "{trace}", "--engine", "no/such.json"], "--engine no/such.json"),
        (["calibrate", "{trace}", "--engine", "{trace}"], "expected the JSON of bench/engine.py"),
        (["calibrate", "{trace}", "--out", "no/such/file.toml"], "--out: expected a file in a folder that is there"),
        (["calibrate", "{trace}", "--arrivals", "no/such/file.jsonl"], "--arrivals: expected a file in a folder"),
        (["calibrate", "{trace}", "--recordings", "no/such/file.jsonl"], "--recordings: expected a file in a folder"),
        (["validate", "--variants", "fast", "--rtt", "1"], "--variants: expected some of pair"),
        (["validate", "--json", "no/such/file.json"], "--json"),
    ],
)
def test_bad_input_is_told_in_one_line(trace: Path, arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(sim, [one.format(trace=trace) for one in arguments])
    assert isinstance(done.exception, ConfigError)
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)
