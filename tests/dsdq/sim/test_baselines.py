"""What a run is compared with, and how the best windows are found."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from dsdq.errors import ConfigError
from dsdq.sim.baselines import baselines, check_objective, colocated, ladder, oracle, own_draft, score, target_only
from dsdq.sim.outcome import Task
from dsdq.sim.runners import here, in_order
from dsdq.sim.scenario.model import Scenario, Way
from tests.dsdq.sim.small import SMALL, outcome, reckoning, small


def place(scenario: Scenario) -> tuple[int, int]:
    _, window, *depth = scenario.window.policy.split(":")
    return int(window), int(depth[0]) if depth else 1


def peaked(best: tuple[int, int]) -> Callable[[Scenario], dict[str, float]]:
    """Return what gives a latency that is least at one place, and rises to all sides."""

    def figures(scenario: Scenario) -> dict[str, float]:
        window, depth = place(scenario)
        return {"e2e_ms": abs(math.log(window / best[0])) + abs(depth - best[1])}

    return figures


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("window", range(1, 13))
def test_the_one_best_window_is_found(window: int, depth: int) -> None:
    asked: list[Scenario] = []
    scenario = small(window__max_window=12, window__max_depth=4)
    found = oracle(reckoning(peaked((window, depth)), asked), scenario, "e2e_ms")
    assert found.sets == {"window.policy": f"static:{window}:{depth}"}
    assert found.scenario.window.policy == f"static:{window}:{depth}"
    assert len(asked) == len(set(map(place, asked))) < 48


def test_the_oracle_is_as_good_as_every_static_window() -> None:
    every = [small(window__policy=f"static:{window}:{depth}") for window in range(1, 9) for depth in (1, 2)]
    best = min(one.figures["e2e_ms"] for one in in_order(here, [Task(one) for one in every]))
    (found,) = in_order(here, [Task(oracle(here, SMALL, "e2e_ms").scenario)])
    assert found.figures["e2e_ms"] <= 1.03 * best


def test_more_is_better_of_rates() -> None:
    run = reckoning(lambda scenario: {"tokens_per_s": float(place(scenario)[0])})
    assert oracle(run, SMALL, "tokens_per_s").sets == {"window.policy": "static:8:1"}


def test_where_nothing_finishes_is_not_the_best() -> None:
    run = reckoning(lambda scenario: {"e2e_ms": math.nan if place(scenario)[0] != 4 else 9.0})
    assert place(oracle(run, SMALL, "e2e_ms").scenario)[0] == 4


def test_verifiers_without_a_drafter_get_one_as_quick_as_the_quickest_device() -> None:
    found = colocated(reckoning(peaked((5, 1))), SMALL, "e2e_ms")
    draft = found.scenario.verifiers.draft
    assert draft is not None
    assert (draft.step_ms, draft.position_ms) == (4, 0)
    assert (found.scenario.way, found.scenario.window.policy) == (Way.COLOCATED, "co-located:5")
    assert "no drafter" in found.about


def test_a_drafter_that_is_there_stays_as_it_is() -> None:
    scenario = small(verifiers__draft__step_ms=1.5)
    assert own_draft(scenario) == {}
    found = colocated(reckoning(peaked((5, 1))), scenario, "e2e_ms")
    assert found.scenario.verifiers.draft == scenario.verifiers.draft
    assert not found.about


@pytest.mark.parametrize(
    ("way", "names"),
    [
        ("distributed", ["target-only", "co-located", "oracle"]),
        ("target-only", ["co-located", "oracle"]),
        ("co-located", ["target-only", "oracle"]),
    ],
)
def test_nothing_is_compared_with_itself(way: str, names: list[str]) -> None:
    scenario = small(verifiers__draft__step_ms=1.0, way=way)
    found = baselines(reckoning(peaked((2, 1))), scenario)
    assert list(found) == names
    assert found["oracle"].scenario.way is Way.DISTRIBUTED


def test_target_only_drafts_nothing() -> None:
    (found,) = in_order(here, [Task(target_only(SMALL).scenario)])
    assert found.figures["stream_share"] == 1
    assert found.windows.keys() == {"target-only"}


def test_an_objective_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="--objective: expected one of e2e_ms"):
        baselines(here, SMALL, "beauty")


def test_where_nothing_costs_anything_no_way_is_the_cheapest() -> None:
    with pytest.raises(ConfigError, match="expected a scenario with verifiers"):
        baselines(here, SMALL, "cost_per_million")
    check_objective("cost_per_million", small(verifiers__per_hour=2.0))
    check_objective("cost_per_million", small(verifiers__watts=400.0, prices__per_kwh=0.3))


@pytest.mark.parametrize(("most", "steps"), [(1, (1,)), (4, (1, 2, 4)), (12, (1, 2, 4, 8, 12))])
def test_windows_to_begin_with_are_powers_of_two(most: int, steps: tuple[int, ...]) -> None:
    assert ladder(most) == steps


def test_a_way_is_not_the_better_for_refusing_whom_it_would_serve_late() -> None:
    served, refusing = (
        outcome(1, e2e_ms=100.0, finished=10.0, refused=0.0),
        outcome(1, e2e_ms=80.0, finished=6.0, refused=4.0),
    )
    assert score([served], "e2e_ms") > score([refusing], "e2e_ms")
    assert score([outcome(1, e2e_ms=80.0, finished=0.0, refused=4.0)], "e2e_ms") == -math.inf
