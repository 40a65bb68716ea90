"""Whatever a scenario says: it comes to an end, no request is lost, and what is counted adds up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings

from dsdq.sim.cloud import Cloud
from dsdq.sim.record import FINISHED, LEFT, REFUSED, Request
from dsdq.sim.run import begin
from dsdq.sim.scenario import Scenario
from tests.dsdq.sim.scenarios import any_scenario
from tests.dsdq.sim.worlds import scenario_of

MOST_EVENTS = 200_000
"""Far more than any of these scenarios takes: one that comes here hangs."""


@dataclass
class Played:
    """A scenario that was played to its end."""

    requests: list[Request]
    cloud: Cloud
    utilisation: float
    logged: list[tuple[Any, ...]] = field(default_factory=list)


def play(scenario: Scenario) -> Played:
    """Play a scenario to its end, if it has one."""
    logged: list[tuple[Any, ...]] = []
    world = begin(scenario, log=lambda *event: logged.append(event))
    record = world.record
    while world.kernel.advance():
        assert world.kernel.events < MOST_EVENTS, "it hangs"
    seconds = (record.end_ms - record.begin_ms) * scenario.verifiers.count
    return Played(record.requests, world.cloud, record.busy_ms / seconds, logged)


def outcomes(played: Played) -> dict[int, list[tuple[Any, ...]]]:
    """Return the events that ended each request, by its number."""
    ends: dict[int, list[tuple[Any, ...]]] = {one.number: [] for one in played.requests}
    for event in played.logged:
        if event[1] in {FINISHED, REFUSED, LEFT}:
            ends[event[2]].append(event)
    return ends


def check_no_request_is_lost(played: Played) -> None:
    assert all(len(ends) == 1 for ends in outcomes(played).values())
    for one in played.requests:
        assert one.outcome in {FINISHED, REFUSED, LEFT}
        if one.outcome == FINISHED:
            assert one.committed == one.output
        else:
            assert one.committed < one.output or one.outcome == REFUSED
        assert one.committed == 0 or one.outcome != REFUSED


def check_what_is_counted_adds_up(played: Played) -> None:
    for one in played.requests:
        assert 0 <= one.accepted <= one.judged <= one.drafted + one.own_drafted
        assert one.accepted <= one.committed <= one.accepted + one.rounds
        assert 0 <= one.stream_tokens <= one.committed
        assert min(one.network_ms, one.queue_ms, one.verify_ms, one.draft_ms) >= 0
        assert one.arrival_ms <= one.began_ms <= one.ended_ms
        if one.committed:
            assert one.began_ms <= one.first_ms <= one.ended_ms
    assert 0 <= played.utilisation <= 1 + 1e-9


def check_texts_only_grow(played: Played) -> None:
    lengths = dict[int, int]()
    times = [event[0] for event in played.logged if event[1] != "asked"]
    assert times == sorted(times)
    for event in played.logged:
        if event[1] == "verdict":
            _, _, number, length, accepted, drafted = event
            assert lengths.get(number, 0) < length
            assert accepted <= drafted
            lengths[number] = length


def check_nothing_is_held_at_the_end(played: Played) -> None:
    for entry in played.cloud._registry:
        verifier = entry.verifier
        assert not verifier.held
        assert not verifier._ready
        assert not len(verifier.waiting)
        assert verifier._paging.available == verifier._paging.blocks
    assert not played.cloud._homeless


def check(scenario: Scenario) -> Played:
    """Play a scenario and check all of these."""
    played = play(scenario)
    check_no_request_is_lost(played)
    check_what_is_counted_adds_up(played)
    check_texts_only_grow(played)
    check_nothing_is_held_at_the_end(played)
    return played


@settings(max_examples=200)
@given(any_scenario)
def test_any_scenario_ends_and_loses_nothing(scenario: Scenario) -> None:
    check(scenario)


# What such scenarios have found


def test_windows_that_come_together_take_no_more_room_than_there_is() -> None:
    """They were to be fed at once, behind the end of their text, and waited for room for ever."""
    check(
        scenario_of(
            duration_s=0.1,
            phone={"draft_ms": 1.0, "link": {"rtt_ms": 10.0}},
            verifiers={"kv_tokens": 64, "step_ms": 5.0, "prefill_tokens": 1},
            workload={"prompt": {"mean": 52}, "output": {"mean": 8}, "acceptance": {"mean": 1.0}},
            window={"max_window": 4, "policy": "static:4:4"},
        )
    )


def test_time_goes_by_where_everything_is_refused() -> None:
    """Devices that do not think, and have no way to go, asked again at the same moment for ever."""
    played = check(scenario_of(verifiers={"kv_tokens": 64}, workload={"prompt": {"mean": 200}}, way="target-only"))
    assert {one.outcome for one in played.requests} == {REFUSED}


@pytest.mark.parametrize("rtt_ms", [0.0, 50.0])
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_text_of_one_token_is_asked_for_together_with_its_opening(rtt_ms: float, loss: float) -> None:
    """Its grant went to a session that had not been opened, and could get lost on that way."""
    workload = {"output": {"mean": 1}, "known_length": True}
    played = check(scenario_of(phone={"link": {"rtt_ms": rtt_ms}}, workload=workload, broker={"loss": loss}))
    first = played.requests[0]
    assert (first.ended_ms, first.repeats, first.drafted) == (rtt_ms + 20, 0, 0)


def test_a_device_that_leaves_gives_its_place_back() -> None:
    played = check(scenario_of(phone={"leave": 1.0, "link": {"rtt_ms": 10.0}}, verifiers={"slots": 1}))
    assert {one.outcome for one in played.requests} == {LEFT}
