"""What device and verifier take beside drafting and passes, to the millisecond: no luck, one device, one text."""

from __future__ import annotations

from typing import Any

import pytest

from dsdq.sim.record import Request
from dsdq.sim.run import simulate
from dsdq.sim.scenario.model import Scenario


def request(policy: str, **changed: dict[str, Any]) -> Request:
    """Return what became of a text of 11 tokens whose drafts are all right; 10 ms a pass, 20 ms a round trip."""
    devices = {"count": 1, "draft_ms": 1.0, "link": {"rtt_ms": 20.0}, "arrivals": {"think_s": 0.0}}
    workload = {"prompt": {"mean": 1}, "output": {"mean": 11}, "acceptance": {"mean": 1.0}, "known_length": True}
    scenario = Scenario.model_validate(
        {
            "name": "one",
            "duration_s": 0.001,
            "devices": {"only": devices | changed.get("devices", {})},
            "verifiers": {"step_ms": 10.0, "position_ms": 0.0} | changed.get("verifiers", {}),
            "workloads": {"default": workload | changed.get("workload", {})},
            "broker": {"latency_ms": 0.0} | changed.get("broker", {}),
            "window": {"policy": policy},
            "routing": changed.get("routing", {}),
        }
    )
    return simulate(scenario).requests[0]


def test_a_window_goes_along_with_the_open_and_takes_one_round_trip() -> None:
    assert request("static:4:1").first_ms == pytest.approx(4 + 20 + 10)


def test_a_round_takes_its_program_s_time() -> None:
    assert request("static:4:1", devices={"round_ms": 3.0}).first_ms == pytest.approx(3 + 4 + 20 + 10)
    plain, slow = (request("static:4:1", devices={"round_ms": ms}) for ms in (0.0, 3.0))
    assert slow.ended_ms - plain.ended_ms == pytest.approx(3.0 * (slow.rounds - 1)), "but for the last token, undrafted"


def test_a_text_begins_when_its_program_is_ready() -> None:
    assert request("target-only", devices={"begin_ms": 7.0}).first_ms == pytest.approx(7 + 20 + 10)


def test_a_verifier_takes_its_time_between_two_steps() -> None:
    plain, slow = (request("target-only", verifiers={"between_ms": ms}, broker={"pushed": True}) for ms in (0.0, 2.0))
    assert plain.ended_ms == pytest.approx(20 + 11 * 10)
    assert slow.ended_ms - plain.ended_ms == pytest.approx(10 * 2.0)


def test_prompts_have_a_price_of_their_own() -> None:
    fed = {"workload": {"prompt": {"mean": 101}}}
    same = request("target-only", verifiers={"position_ms": 0.5}, **fed)
    less = request("target-only", verifiers={"position_ms": 0.5, "prefill_ms": 0.1}, **fed)
    assert same.first_ms - less.first_ms == pytest.approx(100 * 0.4)


def test_a_stream_s_answers_come_with_reads_unless_they_are_pushed() -> None:
    pushed = request("target-only", broker={"pushed": True})
    read = request("target-only")
    assert read.first_ms == pushed.first_ms
    assert pushed.ended_ms < read.ended_ms <= pushed.ended_ms + 20


def test_who_has_not_looked_for_a_while_looks_who_serves() -> None:
    late = {"arrivals": {"per_s": 2e4}}
    assert request("target-only", devices=late).began_ms < 1.0
    known = request("target-only", devices=late)
    looks = request("target-only", devices=late, routing={"trust_alone_s": 0.0})
    assert looks.first_ms - known.first_ms == pytest.approx(20.0)


def test_steps_vary_around_their_mean() -> None:
    varied = request("target-only", verifiers={"variation": 0.3}, workload={"output": {"mean": 2001}})
    assert varied.verify_ms / varied.rounds == pytest.approx(10.0, rel=0.03)
    assert varied.verify_ms != pytest.approx(10.0 * varied.rounds, rel=1e-6)
