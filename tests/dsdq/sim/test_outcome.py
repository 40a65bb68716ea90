"""What is kept of a simulation says what happened in it, and which simulation it was."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.outcome import Task, key, outcome
from dsdq.sim.record import digesting
from dsdq.sim.run import simulate
from tests.dsdq.sim.small import SMALL, small


def test_every_request_is_a_row() -> None:
    found = outcome(Task(SMALL, requests=True))
    rows = found.requests or []
    assert len(rows) == found.figures["requests"]
    ended = [row for row in rows if row["outcome"] == "finished"]
    assert sum(row["e2e_ms"] for row in ended) / len(ended) == pytest.approx(found.figures["e2e_ms"])
    assert all(row["committed"] == row["output"] for row in ended)
    json.dumps(rows)


def test_rows_say_which_requests_figures_are_of() -> None:
    found = outcome(Task(small(duration_s=3.0, warm_up_s=0.5, cool_down_s=1.0), requests=True))
    rows = found.requests or []
    measured = [row for row in rows if row["measured"]]
    assert 0 < len(measured) == found.figures["requests"] < len(rows)
    assert all(500 <= row["arrival_ms"] < 2000 for row in measured)


def test_quantiles_rise_to_what_took_longest() -> None:
    found = outcome(Task(SMALL, requests=True))
    for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
        quantiles, values = found.quantiles[name], [row[name] for row in found.requests or []]
        assert quantiles == sorted(quantiles)
        assert (len(quantiles), quantiles[0], quantiles[-1]) == (101, min(values), max(values))


def test_the_course_over_time_adds_up() -> None:
    found = outcome(Task(SMALL, requests=True))
    slice_s = found.series["t_s"][1]
    assert len(found.series["t_s"]) == len(found.series["running"]) == 120
    assert sum(found.series["tokens_per_s"]) / 120 == pytest.approx(found.figures["tokens_per_s"])
    busy_s = sum(min(row["ended_ms"], 3000) - row["began_ms"] for row in found.requests or []) / 1000
    assert sum(found.series["running"]) * slice_s == pytest.approx(busy_s)
    assert max(found.series["running"]) <= 3 + 1e-9


def test_the_course_begins_before_what_is_measured() -> None:
    early, late = outcome(Task(SMALL)), outcome(Task(small(warm_up_s=1.0)))
    assert late.series == early.series
    assert late.figures["requests"] < early.figures["requests"]


def test_events_are_written_and_digested(tmp_path: Path) -> None:
    digest = blake2b(digest_size=32)
    simulate(SMALL, log=digesting(digest.update))
    file = tmp_path / "events.jsonl"
    found = outcome(Task(SMALL, events=file))
    assert found.events == digest.hexdigest()
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert sum(event[1] == "asked" for event in events) == found.figures["requests"]


def test_a_file_for_events_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--events"):
        outcome(Task(SMALL, events=tmp_path))


def test_events_that_find_no_room_are_told(full: Path) -> None:
    with pytest.raises(ConfigError, match=f"--events {full}: expected a file that can be written, got: No space"):
        outcome(Task(SMALL, events=full))


def test_a_key_tells_simulations_apart(tmp_path: Path) -> None:
    assert key(SMALL) == key(small())
    assert len({key(SMALL), key(small(seed=2)), key(small(window__policy="static:4"))}) == 3
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"right": "0111"}\n')
    recorded = small(workloads__default__acceptance__trace=f"'{trace}'")
    before = key(recorded)
    trace.write_text('{"right": "0110"}\n')
    assert key(recorded) != before
    trace.unlink()
    with pytest.raises(ConfigError, match="trace"):
        key(recorded)


def test_recorded_texts_are_simulated(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"right": "1"}\n')
    assert outcome(Task(small(workloads__default__acceptance__trace=f"'{trace}'"))).figures["acceptance"] > 0.9
