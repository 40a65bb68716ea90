"""Traces are JSONL; what is wrong with one is told with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.scenario import load_scenario, traces
from dsdq.sim.scenario.traces import Arrival
from dsdq.sim.texts import Recording

ARRIVALS = (Arrival(at_s=0.0, prompt=5, output=9), Arrival(at_s=0.5, prompt=1, output=2, device=3, tenant="acme"))
TEXTS = (Recording("1101"), Recording("01", (0.25, 0.5)))


def refusal(read: Callable[[Path], object], file: Path, text: str | bytes) -> str:
    """Return what is said of a trace that is refused."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith(f"trace {file}")
    return str(caught.value)


def test_arrivals_are_read_as_they_were_written(tmp_path: Path) -> None:
    traces.write_arrivals(tmp_path / "asked.jsonl", ARRIVALS)
    assert traces.read_arrivals(tmp_path / "asked.jsonl") == ARRIVALS
    assert (tmp_path / "asked.jsonl").read_text().splitlines()[0] == '{"at_s":0.0,"prompt":5,"output":9}'


def test_recordings_are_read_as_they_were_written(tmp_path: Path) -> None:
    traces.write_recordings(tmp_path / "right.jsonl", TEXTS)
    assert traces.read_recordings(tmp_path / "right.jsonl") == TEXTS


def test_a_scenarios_recordings_go_by_the_name_that_it_gives_them(tmp_path: Path) -> None:
    file = tmp_path / "right.jsonl"
    traces.write_recordings(file, TEXTS)
    scenario = load_scenario("one-device", [f"workloads.default.acceptance={{trace = '{file}'}}"])
    assert traces.read_traces(scenario).recordings == {str(file): TEXTS}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            '{"at_s":0,"prompt":5,"output":9}\n\n{"at_s":1,"prompt":0,"output":9}',
            "line 3: prompt: expected a number >= 1",
        ),
        (
            '{"at_s":1,"prompt":5,"output":9}\n{"at_s":0.5,"prompt":5,"output":9}',
            "line 2: at_s: expected at least 1, got 0.5",
        ),
        ('{"at_s":NaN,"prompt":5,"output":9}', "line 1: at_s: expected a finite number, got nan"),
        ('{"at_s":0,"prompt":"5","output":9}', "line 1: prompt: expected a whole number, got '5'"),
        ('{"at_s":0,"prompt":5,"outputs":9}', "line 1: output: expected a value, got nothing (and 1 more)"),
        ('{"at_s":0', "line 1: expected a JSON object"),
        ("[" * 100_000, "line 1: expected a JSON object"),
        ("[1]", "line 1: expected a table, got a list"),
        (b"\xff\n", "line 1: expected a JSON object"),
        ("\n\n", "expected at least one line, got none"),
    ],
)
def test_a_line_that_is_no_arrival_is_told(text: str | bytes, why: str, tmp_path: Path) -> None:
    assert why in refusal(traces.read_arrivals, tmp_path / "asked.jsonl", text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"right":"102"}', "line 1: right: expected text that matches ^[01]+$, got '102'"),
        ('{"right":""}', "line 1: right: expected text that matches"),
        ('{"right":"10","confidences":[0.5]}', "line 1: confidences: expected 2, one for each of right, got 1"),
        ('{"right":"1","confidences":[1.5]}', "line 1: confidences.0: expected a number <= 1, got 1.5"),
    ],
)
def test_a_line_that_is_no_recording_is_told(text: str, why: str, tmp_path: Path) -> None:
    assert why in refusal(traces.read_recordings, tmp_path / "right.jsonl", text)


def test_traces_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, line = tmp_path / "asked.jsonl", '{"at_s":0,"prompt":5,"output":9}\n'
    for name, most, why in (
        ("MAX_LINES", 2, "line 3: expected at most 2 lines"),
        ("MAX_LINE_BYTES", 9, "line 1: expected at most 9 bytes in a line"),
        ("MAX_BYTES", 40, "line 2: expected at most 40 bytes"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(traces, name, most)
            assert why in refusal(traces.read_arrivals, file, 3 * line)


def test_files_that_cannot_be_read_or_written_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can be read, got: No such file"):
        traces.read_arrivals(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="can be written, got: Is a directory"):
        traces.write_recordings(tmp_path, TEXTS)
    with pytest.raises(ConfigError, match=r"right: expected text that matches"):
        traces.write_recordings(tmp_path / "right.jsonl", [Recording("2")])
