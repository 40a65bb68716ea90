from __future__ import annotations

from pathlib import Path

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.run import simulate
from dsdq.sim.scenario import Scenario
from dsdq.sim.scenario.traces import Arrival, read_traces, write_arrivals
from tests.dsdq.sim.worlds import record_of, scenario_of

CAME = [
    Arrival(at_s=0.0, prompt=3, output=20, device=1),
    Arrival(at_s=0.25, prompt=5, output=7, device=1, tenant="other"),
    Arrival(at_s=0.5, prompt=1, output=4),
    Arrival(at_s=90.0, prompt=1, output=4),
]


def traced(file: Path, count: int = 2) -> Scenario:
    return scenario_of(
        duration_s=60.0,
        phone={"count": count, "arrivals": {"trace": str(file)}},
        tenants={"default": {}, "other": {}},
    )


def test_requests_come_as_a_trace_says_until_the_simulation_ends(tmp_path: Path) -> None:
    file = tmp_path / "came.jsonl"
    write_arrivals(file, CAME)
    scenario = traced(file)
    requests = simulate(scenario, traces=read_traces(scenario)).requests
    assert [(one.arrival_ms, one.prompt, one.committed) for one in requests] == [(0, 3, 20), (250, 5, 7), (500, 1, 4)]
    assert [(one.device, one.tenant) for one in requests[:2]] == [(1, "default"), (1, "other")]
    assert requests[2].device in {0, 1}


def test_a_device_makes_one_text_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "came.jsonl"
    write_arrivals(file, CAME)
    scenario = traced(file)
    first, second = simulate(scenario, traces=read_traces(scenario)).requests[:2]
    assert first.ended_ms > second.arrival_ms
    assert second.began_ms == first.ended_ms


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        (Arrival(at_s=0, prompt=1, output=1, device=1), r"request 1: device: expected less than devices\.phone\.count"),
        (Arrival(at_s=0, prompt=1, output=1, tenant="who"), r"request 1: tenant: expected one of default, other, got"),
    ],
)
def test_a_trace_names_only_who_is_there(came: Arrival, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "came.jsonl"
    write_arrivals(file, [came])
    with pytest.raises(ConfigError, match=expected):
        read_traces(traced(file, count=1))


def test_a_device_that_remembers_begins_its_next_text_the_way_it_found() -> None:
    """Without memory each text is opened by a stream, to find out what drafts are worth."""

    def streamed(*, remembers: bool) -> list[int]:
        phone = {"draft_ms": 1.0, "arrivals": {"think_s": 0.1}, "remembers": remembers}
        record = record_of(duration_s=15.0, phone=phone, window={"policy": "awc"})
        return [one.stream_tokens for one in record.requests]

    forgetful, remembering = streamed(remembers=False), streamed(remembers=True)
    assert len(forgetful) > 2 < len(remembering)
    assert all(forgetful)
    assert remembering[0]
    assert not any(remembering[1:])
