"""What a scenario may say, beyond the bounds of single fields."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dsdq.sim.scenario.deciding import Window
from dsdq.sim.scenario.model import Arrivals, Devices, Link, Prices, Scenario
from dsdq.sim.scenario.workload import Acceptance


def scenario(**fields: Any) -> Scenario:
    return Scenario.model_validate({"name": "small", "devices": {"only": {"count": 1}}, **fields})


def test_a_window_policy_is_checked_against_the_scenarios_own_widest_window() -> None:
    assert Window(policy="static:12", max_window=12)
    with pytest.raises(ValidationError, match="expected WINDOW of 1 to 8"):
        Window(policy="static:12", max_window=8)


def test_what_a_verifier_drafts_itself_needs_its_drafter() -> None:
    for fields in ({"way": "co-located"}, {"way": "dsi"}, {"window": {"policy": "co-located"}}):
        with pytest.raises(ValidationError, match=r"verifiers.draft: expected a drafter|mode that is on offer"):
            scenario(**fields)
        assert scenario(**fields, verifiers={"count": 4, "draft": {"step_ms": 1.0}})


def test_arrivals_are_exactly_one_of_their_kinds() -> None:
    with pytest.raises(ValidationError, match="expected exactly one of per_s, per_device_per_s, think_s, trace"):
        Arrivals()
    with pytest.raises(ValidationError, match="got per_s, think_s"):
        Arrivals(per_s=1.0, think_s=1.0)


def test_acceptance_by_place_or_from_a_trace_is_all_that_is_said_of_it() -> None:
    with pytest.raises(ValidationError, match="expected by_place alone, got trace, too"):
        Acceptance(by_place=(0.9, 0.8), trace="texts.jsonl")
    with pytest.raises(ValidationError, match="expected trace alone, got telling, too"):
        Acceptance(telling=0.2, trace="texts.jsonl")
    with pytest.raises(ValidationError, match="expected by_place alone, got mean, too"):
        Acceptance(mean=0.7, by_place=(0.9, 0.8))


def test_a_draft_model_fits_its_devices_memory() -> None:
    with pytest.raises(ValidationError, match="expected draft_gb within memory_gb, got 3 of 2"):
        Devices(count=1, draft_gb=3.0, memory_gb=2.0)


def test_a_links_trace_begins_at_0_and_rises() -> None:
    assert Link(trace=((0.0, 10.0), (5.0, 20.0)))
    for trace in (((1.0, 10.0),), ((0.0, 10.0), (0.0, 20.0))):
        with pytest.raises(ValidationError, match="expected seconds that begin at 0 and rise"):
            Link(trace=trace)


def test_a_round_trip_stays_the_same_or_is_a_trace() -> None:
    with pytest.raises(ValidationError, match="expected one of rtt_ms, trace, got both"):
        Link(rtt_ms=10.0, trace=((0.0, 10.0),))


@pytest.mark.parametrize("part", [Link(trace=((0.0, 10.0),)), Acceptance(by_place=(0.9,)), Acceptance(trace="a.jsonl")])
def test_what_is_written_of_alternatives_can_be_read_again(part: Link | Acceptance) -> None:
    assert type(part).model_validate_json(part.model_dump_json()) == part


def test_only_what_is_metered_has_a_price() -> None:
    assert Prices(per_million={"committed": 4.0})
    with pytest.raises(ValidationError, match="expected prices of committed, verified"):
        Prices(per_million={"words": 4.0})


def test_what_is_measured_is_not_empty() -> None:
    with pytest.raises(ValidationError, match="warm_up_s: expected less than duration_s"):
        scenario(duration_s=10.0, warm_up_s=10.0)
    with pytest.raises(ValidationError, match=r"cool_down_s: expected less than what .* leaves of .* \(6\), got 6"):
        scenario(duration_s=10.0, warm_up_s=4.0, cool_down_s=6.0)


@pytest.mark.parametrize("fields", [{"seed": "1"}, {"seed": True}, {"duration_s": "60"}, {"window": {"steered": 1}}])
def test_types_are_not_guessed(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        scenario(**fields)
