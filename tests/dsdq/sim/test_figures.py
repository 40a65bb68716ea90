from __future__ import annotations

import pytest

from dsdq.sim.figures import figures, windows
from dsdq.sim.run import simulate
from dsdq.sim.scenario.model import Prices, Slo
from tests.dsdq.sim.worlds import scenario_of


def test_what_a_verifier_drafts_in_vain_is_wasted_too() -> None:
    scenario = scenario_of(
        way="co-located",
        verifiers={"draft": {"step_ms": 1.0}},
        workload={"acceptance": {"by_place": [1.0, 0.0]}},
        window={"policy": "co-located:4"},
    )
    record = simulate(scenario)
    request = record.requests[0]
    # Of each round's drafts the first one alone is right; the verifier soon makes no more of them than pay.
    assert request.drafted == 0
    assert 0 < request.accepted < request.own_drafted
    assert figures(scenario, record)["wasted_drafts"] == pytest.approx(1 - request.accepted / request.own_drafted)


def test_fairness_is_of_what_tenants_got_while_it_is_measured() -> None:
    """One asks from the beginning, the other as much again when nothing is measured any more."""
    phone = {"count": 1, "draft_ms": 3.0, "link": {"rtt_ms": 0.0}}
    scenario = scenario_of(tenants={"default": {}, "late": {}}).model_copy(update={"duration_s": 0.9})
    both = scenario.model_validate(
        scenario.model_dump(exclude_none=True)
        | {"devices": {"now": phone, "later": phone | {"tenant": "late", "begin_ms": 1000.0}}}
    )
    record = simulate(both)
    assert {one.tenant for one in record.requests if one.committed} == {"default", "late"}
    assert figures(both, record)["fairness"] == pytest.approx(0.5)


def test_who_asks_when_nothing_is_measured_any_more_has_no_share() -> None:
    phone = {"count": 1, "draft_ms": 3.0, "link": {"rtt_ms": 0.0}, "arrivals": {"per_s": 4.0}}
    scenario = scenario_of(tenants={"default": {}, "late": {}})
    both = scenario.model_validate(
        scenario.model_dump(exclude_none=True)
        | {"duration_s": 30.0, "cool_down_s": 28.0}
        | {"devices": {"now": phone, "later": phone | {"tenant": "late", "arrivals": {"per_s": 0.04}}}}
    )
    record = simulate(both)
    assert min(one.arrival_ms for one in record.requests if one.tenant == "late") > record.end_ms
    assert figures(both, record)["fairness"] == 1


def test_who_is_refused_is_not_served_well() -> None:
    scenario = scenario_of(
        duration_s=3.0,
        phone={"count": 8, "open_timeout_ms": 1000.0, "arrivals": {"think_s": 0.0}},
        verifiers={"slots": 1, "place_wait_ms": 100.0},
    ).model_copy(update={"slo": Slo(ttft_ms=1e9, tpot_ms=1e9)})
    found = figures(scenario, simulate(scenario))
    assert found["refused"] > 0
    assert found["good_share"] == pytest.approx(found["finished"] / (found["finished"] + found["refused"]))


def test_texts_that_are_measured_end_under_load_where_there_is_time_to_cool_down() -> None:
    """Devices that ask again and again leave a verifier alone one by one when their time is up."""
    busy = scenario_of(
        duration_s=6.0,
        phone={"count": 8, "arrivals": {"think_s": 0.0}},
        verifiers={"row_ms": 10.0},
    )
    cooled = busy.model_copy(update={"duration_s": 12.0, "cool_down_s": 6.0})
    short, long = (simulate(one) for one in (busy, cooled))
    assert (short.end_ms, long.end_ms) == (6000, 6000)
    found, other = figures(busy, short), figures(cooled, long)
    assert other["tokens_per_s"] == found["tokens_per_s"]
    assert other["requests"] == found["requests"] < len(long.requests)
    assert other["tpot_ms"] > found["tpot_ms"]


def test_goodput_is_never_more_than_throughput() -> None:
    """What came while it was measured may be served long after; nobody else asks then."""
    scenario = scenario_of(
        duration_s=4.0,
        phone={"count": 8, "arrivals": {"per_s": 8.0}},
        verifiers={"slots": 1, "place_wait_ms": 1e6},
        broker={"inbox_bound": 1000},
    ).model_copy(update={"slo": Slo(ttft_ms=1e9, tpot_ms=1e9)})
    found = figures(scenario, simulate(scenario))
    assert found["finished"] > 2 * found["requests_per_s"] * 4
    assert found["good_requests_per_s"] == found["requests_per_s"] > 0
    assert found["good_share"] == 1


def test_who_asks_for_nothing_is_not_treated_unfairly() -> None:
    scenario = scenario_of(tenants={"default": {}, "absent": {}})
    assert figures(scenario, simulate(scenario))["fairness"] == 1


def test_warming_up_and_running_out_are_in_no_window_and_no_count() -> None:
    scenario = scenario_of(
        duration_s=30.0,
        warm_up_s=29.999,
        phone={"count": 4, "arrivals": {"think_s": 0.0}},
        verifiers={"count": 2, "failures_per_hour": 3000.0, "return_s": 0.5},
    )
    record = simulate(scenario)
    found = figures(scenario, record)
    assert (found["failures"], found["takeovers"]) == (0, 0)
    assert sum(windows(record).values()) <= 4


@pytest.mark.parametrize(("policy", "least"), [("optimal", 1.0), ("static:8:4", 1.2)])
def test_a_device_pays_for_guesses_and_for_drafts_that_a_verdict_cut_off(policy: str, least: float) -> None:
    """Its drafter never rests while a text is made, or hardly: what it drafted for nothing took its time too."""
    scenario = scenario_of(
        phone={"draft_ms": 4.0, "prompt_ms": 2.0, "draft_watts": 5.0, "link": {"rtt_ms": 30.0}},
        workload={"prompt": {"mean": 51}, "acceptance": {"mean": 0.7}},
        window={"policy": policy, "max_depth": 4},
    )
    record = simulate(scenario)
    request = record.requests[0]
    took_ms = request.ended_ms - request.began_ms
    assert 102 + least * request.draft_ms < request.drafter_ms <= took_ms
    joule = figures(scenario, record)["device_joule_per_token"]
    assert joule == pytest.approx(5.0 * request.drafter_ms / 1000 / request.committed)


def test_what_is_kept_for_a_text_is_billed_for_as_long_as_it_is() -> None:
    """One session, two tokens a step of 20 ms; nobody is silent for long."""
    scenario = scenario_of(
        phone={"draft_ms": 0.0},
        workload={"acceptance": {"mean": 1.0}, "output": {"mean": 100, "variation": 0.0}},
        window={"policy": "static:1"},
    )
    priced = scenario.model_copy(update={"prices": Prices(per_million={"kv_token_seconds": 1000.0})})
    record = simulate(priced)
    request = record.requests[0]
    within = 0.02 * sum(1 + 2 * step for step in range(1, 51))
    assert request.kv_token_ms / 1000 == pytest.approx(within, rel=0.05)
    assert figures(priced, record)["billed_per_million"] == pytest.approx(
        1000 * request.kv_token_ms / 1000 / 100, rel=1e-3
    )
