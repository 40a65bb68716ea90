"""Nodes of targets that make one text at a time (DSI), as scenarios run them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from dsdq.sim.figures import figures
from dsdq.sim.record import FINISHED, LEFT, REFUSED, Record
from dsdq.sim.run import simulate
from dsdq.sim.scenario import Scenario
from tests.dsdq.sim.worlds import scenario_of

NODE: dict[str, Any] = {"count": 4, "draft": {"step_ms": 2.0}}


def dsi(**changes: Any) -> Scenario:
    verifiers = NODE | changes.pop("verifiers", {})
    return scenario_of(way="dsi", verifiers=verifiers, parallel={"targets": 4, "lookahead": 3}, **changes)


def played(**changes: Any) -> Record:
    return simulate(dsi(**changes))


def test_a_node_makes_one_text_after_the_other_in_the_order_in_which_they_came() -> None:
    requests = played(phone={"count": 6, "arrivals": {"per_s": 8.0}}, duration_s=4.0).requests
    assert len(requests) > 10
    in_turn = sorted(requests, key=lambda one: one.began_ms)
    for one, other in pairwise(in_turn):
        assert other.first_ms >= max(one.ended_ms, other.began_ms) + 20  # a pass of its own
    assert sum(one.queue_ms for one in requests) > 0


def test_requests_spread_over_nodes() -> None:
    phone = {"count": 20, "arrivals": {"per_s": 8.0}}
    one, two = (played(phone=phone, duration_s=4.0, verifiers={"count": count}) for count in (4, 8))
    waited = [sum(request.queue_ms for request in record.requests) for record in (one, two)]
    assert waited[1] < 0.5 * waited[0]


def test_a_prompt_is_read_in_chunks_and_tokens_come_as_they_are_certain() -> None:
    link = {"link": {"rtt_ms": 30.0}}
    record = played(phone=link, verifiers={"prefill_tokens": 30}, workload={"prompt": {"mean": 100}})
    first = record.requests[0]
    assert first.first_ms == pytest.approx(30 + 4 * 20 + 20)  # 99 tokens are four chunks
    assert 1 < first.rounds < first.output
    assert (first.outcome, first.committed, first.stream_tokens) == (FINISHED, 100, 100)


def test_passes_vary_and_programs_take_time_as_a_verifiers_do() -> None:
    plain, slower, varied = (
        played(verifiers=verifiers, duration_s=20.0) for verifiers in ({}, {"between_ms": 5.0}, {"variation": 0.3})
    )
    assert slower.requests[0].first_ms == pytest.approx(plain.requests[0].first_ms + 5.0)
    assert slower.busy_ms < plain.busy_ms  # what lies between passes is none
    took_ms = [[one.first_ms - one.began_ms for one in record.requests] for record in (plain, varied)]
    assert max(took_ms[0]) == pytest.approx(min(took_ms[0]))
    assert len(set(took_ms[1])) == len(took_ms[1]) > 5
    assert sum(took_ms[1]) / len(took_ms[1]) == pytest.approx(took_ms[0][0], rel=0.25)


def test_figures_are_made_of_it_as_of_any_way() -> None:
    scenario = dsi(phone={"count": 2, "link": {"rtt_ms": 10.0}}, duration_s=5.0)
    found = figures(scenario, simulate(scenario))
    assert 0 < found["utilisation"] <= 1
    assert 0.5 < found["acceptance"] < 1
    assert found["tokens_per_round"] > 1
    assert 0 < found["tpot_ms"] < 20
    assert found["ttft_ms"] >= 30


def test_a_text_without_room_is_refused_and_a_device_may_leave() -> None:
    refused = played(verifiers={"kv_tokens": 64}).requests
    assert {one.outcome for one in refused} == {REFUSED}
    left = played(phone={"leave": 1.0, "link": {"rtt_ms": 10.0}}).requests
    assert {one.outcome for one in left} == {LEFT}


def test_verifiers_that_make_no_whole_nodes_are_refused() -> None:
    expected = r"verifiers.count: expected a multiple of parallel.targets \(4\) for the way dsi, got 6"
    with pytest.raises(ValidationError, match=expected):
        dsi(verifiers={"count": 6})


def test_lost_messages_are_refused_since_nobody_repeats_them() -> None:
    with pytest.raises(
        ValidationError, match=r"broker.loss: expected 0 for the way dsi, which repeats nothing, got 0.1"
    ):
        dsi(broker={"loss": 0.1})


def test_nodes_do_not_fail() -> None:
    with pytest.raises(ValidationError, match="failures_per_hour: expected 0 for the way dsi"):
        dsi(verifiers={"failures_per_hour": 1.0})
