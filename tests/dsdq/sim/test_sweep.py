"""A grid of cells: each simulated once, however often the sweep is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.sim import outcome
from dsdq.sim.outcome import Outcome, Task
from dsdq.sim.runners import here
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.sweep import grid, read_cells, sweep, swept
from dsdq.sim.variations import assigned, varied
from tests.dsdq.sim.small import SMALL, reckoning

VARY = ["window.policy=static:1,static:2", "devices.*.link.rtt_ms=10,30.5,100"]


def load(settings: Sequence[str]) -> Scenario:
    return varied(SMALL, assigned("--set", settings)).scenario


def rtt(scenario: Scenario) -> dict[str, float]:
    return {"rtt": scenario.devices["phones"].link.rtt_ms}


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return tmp_path / "cells.jsonl"


def killed_after(count: int) -> Callable[[Sequence[Task]], Iterator[tuple[int, Outcome]]]:
    """Return a runner that dies behind so many outcomes."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        for number, found in enumerate(reckoning(rtt)(tasks)):
            if number == count:
                raise KeyboardInterrupt
            yield found

    return run


def test_every_combination_is_a_cell() -> None:
    found = grid(load, VARY, 1)
    assert len(found.variants) == 6
    assert found.fields == {"window.policy": ["static:1", "static:2"], "devices.*.link.rtt_ms": ["10", "30.5", "100"]}
    last = found.variants["window.policy=static:2, devices.*.link.rtt_ms=30.5"]
    assert last.scenario == load(["window.policy=static:2", "devices.*.link.rtt_ms=30.5"])


def test_no_field_is_one_cell() -> None:
    assert [one.scenario for one in grid(load, [], 1).variants.values()] == [SMALL]


def test_a_killed_sweep_goes_on_where_it_was(cells: Path) -> None:
    variants = grid(load, VARY, 2).variants
    with pytest.raises(KeyboardInterrupt):
        sweep(killed_after(5), variants, 2, cells)
    assert len(read_cells(cells)) == 5
    asked: list[Scenario] = []
    found = sweep(reckoning(rtt, asked), variants, 2, cells)
    assert len(asked) == 7
    assert [[one.seed for one in outcomes] for outcomes in found.values()] == [[1, 2]] * 6
    assert [outcomes[0].figures["rtt"] for outcomes in found.values()] == [10, 30.5, 100] * 2
    assert sweep(reckoning(rtt, asked), variants, 2, cells) == found
    assert len(asked) == 12 - 5


def test_a_wider_grid_takes_over_what_is_finished(cells: Path) -> None:
    sweep(reckoning(rtt), grid(load, VARY[:1], 1).variants, 1, cells)
    asked: list[Scenario] = []
    sweep(reckoning(rtt, asked), grid(load, ["window.policy=static:1,static:2,static:3"], 2).variants, 2, cells)
    assert len(asked) == 4


@pytest.mark.parametrize("torn", [b'{"key": "ab', b"{", b'{"key": "x", "seed": 1}'])
def test_a_torn_last_line_is_simulated_again(cells: Path, torn: bytes) -> None:
    variants = grid(load, VARY, 1).variants
    found = sweep(reckoning(rtt), variants, 1, cells)
    whole = cells.read_bytes()
    cells.write_bytes(whole[: whole[:-1].rfind(b"\n") + 1] + torn)
    asked: list[Scenario] = []
    assert sweep(reckoning(rtt, asked), variants, 1, cells) == found
    assert len(asked) == 1
    assert cells.read_bytes() == whole


@pytest.mark.parametrize("line", ["{}", "[]", "nonsense", '{"key": "a", "seed": 1, "more": 2}'])
def test_a_file_that_is_no_sweeps_is_left_alone(cells: Path, line: str) -> None:
    cells.write_text(line + "\n")
    with pytest.raises(ConfigError, match=r"line 1: expected a finished cell"):
        sweep(reckoning(rtt), grid(load, [], 1).variants, 1, cells)
    assert cells.read_text() == line + "\n"


@pytest.mark.parametrize("content", [b'{"precious": 1}', b"\xff", b'{"key": 3'])
def test_somebody_elses_last_line_is_no_torn_one(cells: Path, content: bytes) -> None:
    cells.write_bytes(content)
    with pytest.raises(ConfigError, match=r'expected a last line that begins with {"key": "'):
        sweep(reckoning(rtt), grid(load, [], 1).variants, 1, cells)
    assert cells.read_bytes() == content


def test_a_cell_of_another_program_is_simulated_again(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = grid(load, VARY, 1).variants
    sweep(reckoning(rtt), variants, 1, cells)
    monkeypatch.setattr(outcome, "_program", lambda: b"another")
    asked: list[Scenario] = []
    sweep(reckoning(rtt, asked), variants, 1, cells)
    assert len(asked) == len(variants)


def test_a_trace_of_many_cells_is_hashed_once(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"right": "0111"}\n')
    recorded = grid(lambda more: load([f"workloads.default.acceptance.trace='{trace}'", *more]), VARY, 2).variants
    read = list[Path]()
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: read.append(file) or whole(file))
    sweep(reckoning(rtt), recorded, 2, cells)
    assert read == [trace]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--results"):
        sweep(reckoning(rtt), grid(load, [], 1).variants, 1, tmp_path / "none" / "cells.jsonl")
    with pytest.raises(ConfigError, match="expected a file that can be read again"):
        sweep(reckoning(rtt), grid(load, [], 1).variants, 1, tmp_path)


def test_what_goes_wrong_in_a_cell_is_not_the_files(cells: Path) -> None:
    def run(_: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        raise OSError("no room for a process")
        yield

    with pytest.raises(OSError, match="no room for a process"):
        sweep(run, grid(load, [], 1).variants, 1, cells)


def test_what_was_read_again_is_what_was_simulated(cells: Path) -> None:
    found = grid(load, VARY[:1], 2)
    assert swept(here, SMALL, found, 2, cells) == swept(reckoning(rtt), SMALL, found, 2, cells)


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ("window.policy", "expected name=value"),
        ("window.policy=", "expected name=value"),
        ("window.policy=static:1,", "expected values between commas"),
        ("window.policy=static:1,nonsense", "window policy"),
        ("seed=1,2", "--seeds does that"),
        ("verifiers.step_ms=" + ",".join(map(str, range(50_001))), "expected at most 100,000 cells"),
    ],
)
def test_a_grid_that_is_none_is_refused(vary: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        grid(load, [vary], 2)
