"""What a run is compared with: the cloud alone, drafting in the cloud, and the best static window there is.

- ``target-only``: the verifiers decode, nobody drafts.
- ``co-located``: the verifiers draft themselves, with their best window. A scenario whose verifiers have no drafter
  gets one that takes as long for a pass as the quickest of its devices for a token (:func:`own_draft`).
- ``oracle``: devices draft with the static window and depth that are best for all of the run, as nobody knows before.

Which window is best is searched with the scenario's own seed: powers of two first, then between the best one's
neighbours, which finds the best where one peak is all there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dsdq.errors import ConfigError
from dsdq.sim.outcome import Outcome, Task
from dsdq.sim.runners import Runner, in_order
from dsdq.sim.scenario.model import Scenario, Way
from dsdq.sim.variations import Variant, varied

TARGET_ONLY, COLOCATED, ORACLE = Way.TARGET_ONLY.value, Way.COLOCATED.value, "oracle"

COST = "cost_per_million"
OBJECTIVES = {
    "e2e_ms": -1,
    "ttft_ms": -1,
    "tpot_ms": -1,
    COST: -1,
    "requests_per_s": 1,
    "tokens_per_s": 1,
    "good_requests_per_s": 1,
}
"""Figures that a window can be best for; -1 for those that are the better the lower they are."""

LATENCIES = ("e2e_ms", "ttft_ms", "tpot_ms")
DEFAULT_OBJECTIVE = "e2e_ms"

ASSUMED_DRAFT = "the scenario's verifiers have no drafter: assumed as quick a pass as the quickest device's token"

Place = tuple[int, int]
"""A window and a depth."""


def score(outcomes: Sequence[Outcome], objective: str) -> float:
    """Return how good a way is for an objective, more being better; nothing finished is worst.

    Latencies are of requests that were finished. A way that refuses the others is not better for it: each latency is
    divided by the share that was not refused.

    Raises:
        ConfigError: there is no such objective.
    """
    check_objective(objective)
    values = [OBJECTIVES[objective] * one.figures[objective] for one in outcomes]
    if objective in LATENCIES:
        values = [value / _served(one) for value, one in zip(values, outcomes, strict=True)]
    return -math.inf if any(map(math.isnan, values)) else math.fsum(values) / len(values)


def _served(outcome: Outcome) -> float:
    """Return the share of requests that were finished, of those that were or were refused; NaN if none was."""
    finished, refused = outcome.figures["finished"], outcome.figures["refused"]
    return finished / (finished + refused) if finished else math.nan


def check_objective(objective: str, scenario: Scenario | None = None) -> None:
    """Return if there is such an objective, and it tells ways of a scenario apart.

    Raises:
        ConfigError: there is not, or it does not: nothing costs anything.
    """
    if objective not in OBJECTIVES:
        raise ConfigError(f"--objective: expected one of {', '.join(OBJECTIVES)}, got {objective!r}")
    if objective == COST and scenario is not None and not _costs(scenario):
        raise ConfigError(
            f"--objective {COST}: expected a scenario with verifiers.per_hour, or verifiers.watts and prices.per_kwh"
        )


def _costs(scenario: Scenario) -> bool:
    verifiers = scenario.verifiers
    powered = scenario.prices.per_kwh * (verifiers.watts + verifiers.idle_watts)
    return verifiers.per_hour > 0 or powered > 0


def baselines(run: Runner, scenario: Scenario, objective: str = DEFAULT_OBJECTIVE) -> dict[str, Variant]:
    """Return what a scenario is compared with, by name, but not what it is itself.

    Raises:
        ConfigError: there is no such objective, or it tells nothing apart.
    """
    check_objective(objective, scenario)
    found = {}
    if scenario.way is not Way.TARGET_ONLY:
        found[TARGET_ONLY] = target_only(scenario)
    if scenario.way is not Way.COLOCATED:
        found[COLOCATED] = colocated(run, scenario, objective)
    return found | {ORACLE: oracle(run, scenario, objective)}


def target_only(scenario: Scenario) -> Variant:
    """Return a scenario in which nobody drafts."""
    return varied(scenario, {"way": TARGET_ONLY})


def colocated(run: Runner, scenario: Scenario, objective: str) -> Variant:
    """Return a scenario in which verifiers draft, with their best window."""
    draft = own_draft(scenario)
    sets = draft | {"way": COLOCATED}
    best = _best(run, scenario, lambda place: sets | {"window.policy": f"{COLOCATED}:{place[0]}"}, (1,), objective)
    return replace(best, about=ASSUMED_DRAFT) if draft else best


def oracle(run: Runner, scenario: Scenario, objective: str) -> Variant:
    """Return a scenario in which devices draft with the best static window and depth."""
    sets = {} if scenario.way is Way.DISTRIBUTED else {"way": Way.DISTRIBUTED.value}

    def _at(place: Place) -> Mapping[str, Any]:
        return sets | {"window.policy": "static:{}:{}".format(*place)}

    return _best(run, scenario, _at, ladder(scenario.window.max_depth), objective)


def own_draft(scenario: Scenario) -> dict[str, Any]:
    """Return settings that give verifiers a drafter: as quick, for all rows at once, as the quickest device for one.

    A drafter on a verifier's accelerator is not slower than on a device; how much quicker, nothing here says. What a
    scenario has is left as it is.
    """
    if scenario.verifiers.draft is not None:
        return {}
    return {"verifiers.draft.step_ms": min(devices.draft_ms for devices in scenario.devices.values())}


def ladder(most: int) -> tuple[int, ...]:
    """Return the powers of two up to a number, and the number."""
    powers = [1 << power for power in range(most.bit_length())]
    return tuple(dict.fromkeys([*powers, most]))


def _best(
    run: Runner,
    scenario: Scenario,
    at: Callable[[Place], Mapping[str, Any]],
    depths: tuple[int, ...],
    objective: str,
) -> Variant:
    """Search the best window and depth: what ``at`` says of a place is set there."""
    widest, known = scenario.window.max_window, dict[Place, float]()
    fresh: Iterable[Place] = [(window, depth) for depth in depths for window in ladder(widest)]
    best = (1, 1)
    while places := [place for place in dict.fromkeys(fresh) if place not in known]:
        variants = [varied(scenario, at(place)) for place in places]
        outcomes = in_order(run, [Task(variant.scenario) for variant in variants])
        known |= {place: score([one], objective) for place, one in zip(places, outcomes, strict=True)}
        best = max(known, key=lambda place: (known[place], -place[1], -place[0]))
        fresh = _between(best, known, max(depths))
    return varied(scenario, at(best))


def _between(best: Place, known: Mapping[Place, float], deepest: int) -> Iterable[Place]:
    """Return the windows next to the best one that were tried at any depth, those in between, and other depths."""
    window, depth = best
    tried = sorted({other for other, _ in known})
    number = tried.index(window)
    for other in tried[max(number - 1, 0) : number + 2]:
        yield other, depth
        yield (window + other) // 2, depth
    for other in (depth - 1, depth + 1):
        if 1 <= other <= deepest:
            yield window, other
