"""How many verifiers some devices need, and up to where drafting on devices pays.

Each answer is searched by halving, with the same seeds everywhere. Drafting on devices *pays* against another way where
the objective is better by more than :data:`GAIN`: a policy that may fall back on that other way never loses much, and
where it gains nothing any more is what one wants to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dsdq.errors import ConfigError
from dsdq.sim.baselines import COLOCATED, OBJECTIVES, TARGET_ONLY, check_objective, colocated, score, target_only
from dsdq.sim.outcome import Outcome
from dsdq.sim.replications import replicate, result, way
from dsdq.sim.runners import Runner
from dsdq.sim.scenario.model import Scenario, Way
from dsdq.sim.search import least, least_by_doubling
from dsdq.sim.statistics import mean
from dsdq.sim.variations import Variant, with_acceptance, with_count, with_rtt

GAIN = 0.01
MOST_VERIFIERS = 10_000
MOST_EACH = 4
"""Verifiers for each device: routing by chance, or by figures of a while ago, does not give each its own."""

MOST_RTT_MS = 1000.0
STEPS = 100
"""Places on the grids of round trips and of acceptance."""

KEPT_WINDOW = "with the window that is best for the scenario as given, at every number, round trip and acceptance"

DISTRIBUTED = Way.DISTRIBUTED.value


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: a share of requests that keep to the SLO, what is best, and how many seeds say so."""

    good: float
    objective: str
    seeds: int


def ways(run: Runner, scenario: Scenario, objective: str) -> dict[str, Variant]:
    """Return the ways that are planned for: the scenario's own, the cloud alone, and drafting in the cloud.

    Raises:
        ConfigError: devices do not draft in this scenario, or there is no such objective, or it tells nothing apart.
    """
    if scenario.way is not Way.DISTRIBUTED:
        raise ConfigError(f"way: expected {DISTRIBUTED}, which the others are held against, got {scenario.way}")
    check_objective(objective, scenario)
    drafting = colocated(run, scenario, objective)
    return {
        DISTRIBUTED: Variant({}, scenario),
        TARGET_ONLY: target_only(scenario),
        COLOCATED: replace(drafting, about="; ".join(filter(None, (KEPT_WINDOW, drafting.about)))),
    }


def served_well(outcomes: Sequence[Outcome]) -> float:
    """Return the share of good requests, on average over seeds; where there were none, none was."""
    shares = [one.figures["good_share"] for one in outcomes]
    return math.fsum(0.0 if math.isnan(share) else share for share in shares) / len(shares)


def enough(run: Runner, variant: Variant, question: Question) -> tuple[int | None, dict[int, list[Outcome]]]:
    """Return the least number of verifiers with which enough requests are good, and what came of each that was tried.

    None where even :data:`MOST_EACH` for each device, the most that were tried, do not help.
    """
    devices = sum(one.count for one in variant.scenario.devices.values())
    most = min(MOST_VERIFIERS, MOST_EACH * devices)
    known: dict[int, list[Outcome]] = {}

    def _holds(count: int) -> bool:
        known.update({count: replicate(run, {"": with_count(variant.scenario, count)}, question.seeds)[""]})
        return served_well(known[count]) >= question.good

    found = least_by_doubling(_holds, min(variant.scenario.verifiers.count, most), most)
    return found, known


def break_even_rtt_ms(run: Runner, ours: Variant, theirs: Variant, question: Question) -> float | None:
    """Return up to which round trip drafting on devices pays; None: it never does.

    Round trips are searched on a grid that is the finer the shorter they are. Where it pays at the longest of them too,
    :data:`MOST_RTT_MS`, that is the answer.
    """

    def _lost(place: int) -> bool:
        return not _pays(
            run, with_rtt(ours.scenario, _rtt_ms(place)), with_rtt(theirs.scenario, _rtt_ms(place)), question
        )

    found = least(_lost, 0, STEPS)
    return MOST_RTT_MS if found is None else _rtt_ms(found - 1) if found else None


def break_even_acceptance(run: Runner, ours: Variant, theirs: Variant, question: Question) -> float | None:
    """Return from which acceptance on drafting on devices pays, in hundredths; None: it never does."""

    def _good(place: int) -> bool:
        mean = place / STEPS
        return _pays(run, with_acceptance(ours.scenario, mean), with_acceptance(theirs.scenario, mean), question)

    found = least(_good, 0, STEPS)
    return None if found is None else found / STEPS


def _rtt_ms(place: int) -> float:
    return MOST_RTT_MS * (place / STEPS) ** 2


def _pays(run: Runner, ours: Scenario, theirs: Scenario, question: Question) -> bool:
    """Say whether one scenario is better than another by enough."""
    found = replicate(run, {"ours": ours, "theirs": theirs}, question.seeds)
    sign = OBJECTIVES[question.objective]
    our, their = (sign * score(found[name], question.objective) for name in ("ours", "theirs"))
    return our > their * (1 + GAIN) if sign > 0 else our < their * (1 - GAIN)


def plan(run: Runner, scenario: Scenario, question: Question) -> dict[str, Any]:
    """Return all answers as a result: ``verifiers`` by way, and ``break_even`` by what varies and the other way.

    Raises:
        ConfigError: devices do not draft in this scenario, or there is no such objective.
    """
    variants = ways(run, scenario, question.objective)
    verifiers, shown = {}, {}
    for name, variant in variants.items():
        count, tried = enough(run, variant, question)
        most = max(tried) if count is None else count
        verifiers[name] = _answer(count, tried[most]) | {"tried": _tried(tried)}
        shown[name] = way(replace(variant, sets={**variant.sets, "verifiers.count": most}), tried[most])
    ours = variants.pop(DISTRIBUTED)
    ends = {
        "rtt_ms": {
            name: _end(run, ours, theirs, question, break_even_rtt_ms(run, ours, theirs, question), with_rtt)
            for name, theirs in variants.items()
        },
        "acceptance": {
            name: _end(run, ours, theirs, question, break_even_acceptance(run, ours, theirs, question), with_acceptance)
            for name, theirs in variants.items()
        },
    }
    asked = {"good": question.good, "objective": question.objective, "gain": GAIN, "most_rtt_ms": MOST_RTT_MS}
    return result("plan", scenario, question.seeds, **asked, verifiers=verifiers, break_even=ends, ways=shown)


def _answer(count: int | None, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what is said of a number of verifiers; the figures of None are those at the most that were tried."""
    names = ("utilisation", "tokens_per_s", "cost_per_million", "billed_per_million")
    figures = {name: mean([one.figures[name] for one in outcomes]) for name in names}
    return {"count": count, "good": served_well(outcomes), **figures}


def _tried(outcomes: Mapping[int, Sequence[Outcome]]) -> list[dict[str, Any]]:
    """Return how well devices are served with each number of verifiers, from few to many."""
    return [{"count": count, "good": served_well(outcomes[count])} for count in sorted(outcomes)]


def _end(
    run: Runner,
    ours: Variant,
    theirs: Variant,
    question: Question,
    value: float | None,
    at: Callable[[Scenario, float], Scenario],
) -> dict[str, Any]:
    """Return a break-even, and what a million tokens costs there on devices and the other way."""
    if value is None:
        return {"value": None, "cost_per_million": None}
    scenarios = {"ours": at(ours.scenario, value), "theirs": at(theirs.scenario, value)}
    found = replicate(run, scenarios, question.seeds)
    costs = {name: mean([one.figures["cost_per_million"] for one in each]) for name, each in found.items()}
    return {"value": value, "cost_per_million": costs}
