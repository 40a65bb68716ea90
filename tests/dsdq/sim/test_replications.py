"""Replications: the same whoever simulates them, and paired over ways."""

from __future__ import annotations

import math
from multiprocessing import active_children

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.outcome import Task
from dsdq.sim.replications import differences, replicate, result, way
from dsdq.sim.runners import here, in_order, processes, remembering
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.variations import Variant
from tests.dsdq.sim.small import SMALL, outcome, reckoning, small


def test_several_processes_find_what_one_does() -> None:
    scenarios = {"narrow": SMALL, "wide": small(window__policy="static:8")}
    alone = replicate(here, scenarios, 3)
    with processes(2) as run:
        assert replicate(run, scenarios, 3) == alone
    assert [one.seed for one in alone["wide"]] == [1, 2, 3]
    assert len({one.figures["e2e_ms"] for one in alone["wide"]}) == 3


def test_a_process_that_is_killed_is_told_in_a_line() -> None:
    tasks = [Task(small(duration_s=length_s)) for length_s in (1.0, 3e4)]
    with processes(2) as run:
        outcomes = run(tasks)
        assert next(outcomes)[0] == 0
        for process in active_children():
            process.kill()
        with pytest.raises(ConfigError, match=r"--jobs 2: .*ended from outside"):
            next(outcomes)


def test_ways_meet_the_same_texts() -> None:
    tasks = [Task(one, requests=True) for one in (SMALL, small(way="target-only"))]
    texts = [
        {row["device"]: (row["prompt"], row["output"]) for row in reversed(one.requests or [])}
        for one in in_order(here, tasks)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 3


def test_a_way_has_means_intervals_and_each_seeds_figures() -> None:
    found = way(Variant({"a": 1}, SMALL), [outcome(1, x=1.0, y=math.nan), outcome(2, x=3.0, y=5.0)])
    assert found["figures"] == {"x": 2, "y": 5}
    assert found["intervals"]["x"] == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)
    assert found["intervals"]["y"] is None
    assert found["each"]["x"] == [1, 3]
    assert found["set"] == {"a": 1}


def test_quantiles_and_course_are_means_over_seeds() -> None:
    outcomes = replicate(here, {"": SMALL}, 2)[""]
    found = way(Variant({}, SMALL), outcomes)
    assert found["quantiles"]["ttft_ms"][50] == pytest.approx(found["figures"]["ttft_ms_p50"])
    assert sum(found["series"]["tokens_per_s"]) / 120 == pytest.approx(found["figures"]["tokens_per_s"])
    assert sum(found["windows"].values()) == sum(sum(one.windows.values()) for one in outcomes)


def test_a_paired_difference_is_told_where_single_figures_scatter() -> None:
    base = [outcome(seed, x=100.0 * seed) for seed in (1, 2, 3)]
    other = [outcome(seed, x=100.0 * seed + 1 + seed / 10) for seed in (1, 2, 3)]
    found = differences(base, other)["x"]
    assert found["difference"] == pytest.approx(1.2)
    assert found["told_apart"]
    assert found["ratio"] == pytest.approx((1.011 + 1.006 + 1.0043333) / 3)
    assert found["ratio_interval"][0] < found["ratio"] < found["ratio_interval"][1]


@pytest.mark.parametrize(("more", "apart"), [((0.0, 0.0), 0.0), ((1.0, -1.0), 0.0), ((2e-16, 1e-16), 0.0)])
def test_what_may_be_no_difference_is_not_told_apart(more: tuple[float, float], apart: float) -> None:
    base = [outcome(seed, x=1.0) for seed in (1, 2)]
    found = differences(base, [outcome(seed, x=1.0 + one) for seed, one in zip((1, 2), more, strict=True)])["x"]
    assert found["difference"] == apart
    assert not found["told_apart"]


def test_one_seed_tells_nothing_apart() -> None:
    found = differences([outcome(1, x=1.0)], [outcome(1, x=9.0)])["x"]
    assert (found["difference"], found["interval"], found["told_apart"]) == (8, None, False)


def test_nothing_is_simulated_twice() -> None:
    asked: list[Scenario] = []
    run = remembering(reckoning(lambda scenario: {"x": float(scenario.seed)}, asked))
    first = in_order(run, [Task(SMALL), Task(small(seed=2))])
    again = in_order(run, [Task(small(seed=3)), Task(small(seed=2)), Task(SMALL)])
    assert [one.seed for one in asked] == [2, 1, 3]
    assert again[1:] == first[::-1]
    assert [one.figures["x"] for one in again] == [3, 2, 1]


def test_what_comes_twice_at_once_is_simulated_once() -> None:
    asked: list[Scenario] = []
    run = remembering(reckoning(lambda scenario: {"x": float(scenario.seed)}, asked))
    found = in_order(run, [Task(SMALL), Task(small(seed=2)), Task(SMALL), Task(small(seed=2))])
    assert sorted(one.seed for one in asked) == [1, 2]
    assert [one.figures["x"] for one in found] == [1, 2, 1, 2]


def test_what_is_asked_for_its_requests_is_simulated_again() -> None:
    run = remembering(here)
    assert in_order(run, [Task(SMALL)])[0].requests is None
    assert in_order(run, [Task(SMALL, requests=True)])[0].requests
    assert in_order(run, [Task(SMALL)])[0].requests is None


def test_a_result_can_be_repeated_from_what_it_says() -> None:
    document = result("run", small(seed=7), 3, ways={})
    assert Scenario.model_validate(document["scenario"]) == small(seed=7)
    assert (document["kind"], document["seeds"]) == ("run", [7, 8, 9])
