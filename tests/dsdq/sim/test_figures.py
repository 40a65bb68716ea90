from __future__ import annotations

import pytest

from dsdq.sim.figures import figures
from dsdq.sim.run import simulate
from dsdq.sim.scenario.model import Slo
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


def test_who_is_refused_is_not_served_well() -> None:
    scenario = scenario_of(
        duration_s=3.0,
        phone={"count": 8, "open_timeout_ms": 1000.0, "arrivals": {"think_s": 0.0}},
        verifiers={"slots": 1, "place_wait_ms": 100.0},
    ).model_copy(update={"slo": Slo(ttft_ms=1e9, tpot_ms=1e9)})
    found = figures(scenario, simulate(scenario))
    assert found["refused"] > 0
    assert found["good_share"] == pytest.approx(found["finished"] / (found["finished"] + found["refused"]))
