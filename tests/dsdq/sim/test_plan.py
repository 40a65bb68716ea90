"""How many verifiers, and where drafting on devices pays: answers that can be reckoned beforehand."""

from __future__ import annotations

import math

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.baselines import ASSUMED_DRAFT, target_only
from dsdq.sim.plan import KEPT_WINDOW, Question, enough, plan, served_well
from dsdq.sim.runners import here
from dsdq.sim.scenario.model import Scenario, Way
from tests.dsdq.sim.small import SMALL, outcome, reckoning, small

NEEDED = {Way.DISTRIBUTED: 3, Way.TARGET_ONLY: 21, Way.COLOCATED: 900}


def reckoned(scenario: Scenario) -> dict[str, float]:
    """Return a fleet of 60 devices whose latency is of round trip and acceptance, and the others' is not."""
    count, way = scenario.verifiers.count, scenario.way
    rtt_ms, acceptance = scenario.devices["phones"].link.rtt_ms, scenario.workloads["default"].acceptance.mean
    latency = {Way.DISTRIBUTED: 100 + rtt_ms + 100 * (0.7 - acceptance), Way.TARGET_ONLY: 150.0, Way.COLOCATED: 90.0}
    return {
        "finished": 10.0,
        "refused": 0.0,
        "good_share": 1.0 if count >= NEEDED[way] else 0.5,
        "e2e_ms": latency[way],
        "cost_per_million": 2.0 * count,
        "billed_per_million": math.nan,
        "utilisation": 0.5,
        "tokens_per_s": 9.0,
    }


@pytest.mark.parametrize("begin", [1, 4, 60])
def test_as_many_verifiers_as_needed_and_break_evens(begin: int) -> None:
    scenario = small(devices__phones__count=60, verifiers__count=begin)
    found = plan(reckoning(reckoned), scenario, Question(0.95, "e2e_ms", 2))
    verifiers = found["verifiers"]
    assert {name: one["count"] for name, one in verifiers.items()} == {
        "distributed": 3,
        "target-only": 21,
        "co-located": None,  # not with four verifiers for each device
    }
    assert [one["cost_per_million"] for one in verifiers.values()] == [6, 42, 480]
    assert [one["good"] for one in verifiers.values()] == [1, 1, 0.5]
    tried = {one["count"]: one["good"] for one in verifiers["target-only"]["tried"]}
    assert list(tried) == sorted(tried)
    assert (tried[20], tried[21]) == (0.5, 1.0)  # what is next to the answer was tried
    rtt, acceptance = found["break_even"]["rtt_ms"], found["break_even"]["acceptance"]
    assert rtt["target-only"]["value"] == pytest.approx(48.4)  # 100 + 48.5 = 0.99 × 150, on the grid below
    assert rtt["target-only"]["cost_per_million"] == {"ours": 2 * begin, "theirs": 2 * begin}
    assert rtt["co-located"] == {"value": None, "cost_per_million": None}
    assert acceptance["target-only"]["value"] == 0.42  # 120 + 70 - 41.5 = 148.5
    assert acceptance["co-located"]["value"] is None  # it would have to be more than 1


def test_ways_say_with_how_many_verifiers_and_which_drafter_their_figures_are() -> None:
    scenario = small(devices__phones__count=60)
    ways = plan(reckoning(reckoned), scenario, Question(0.95, "e2e_ms", 1))["ways"]
    assert {name: one["set"]["verifiers.count"] for name, one in ways.items()} == {
        "distributed": 3,
        "target-only": 21,
        "co-located": 240,  # the most that were tried
    }
    said = f"{KEPT_WINDOW}; {ASSUMED_DRAFT}"
    assert {name: one["about"] for name, one in ways.items() if one["about"]} == {"co-located": said}


def test_a_real_fleet_needs_more_verifiers_for_more_devices() -> None:
    counts = []
    for devices in (2, 8):
        scenario = small(
            devices__phones__count=devices,
            devices__phones__arrivals="{think_s = 0.05}",
            verifiers__row_ms=15.0,
            slo__tpot_ms=70.0,
        )
        count, tried = enough(here, target_only(scenario), Question(0.8, "tpot_ms", 1))
        assert count is not None
        assert served_well(tried[count]) >= 0.8
        counts.append(count)
    assert 1 <= counts[0] < counts[1] <= 32


def test_nobody_is_served_well_where_nobody_is() -> None:
    assert served_well([outcome(1, good_share=0.75), outcome(2, good_share=math.nan)]) == 0.375


def test_only_drafting_on_devices_has_a_break_even() -> None:
    with pytest.raises(ConfigError, match="way: expected distributed"):
        plan(here, small(way="target-only"), Question(0.95, "e2e_ms", 1))
    with pytest.raises(ConfigError, match="--objective"):
        plan(here, SMALL, Question(0.95, "beauty", 1))
