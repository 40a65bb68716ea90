"""How many verifiers some devices need, and up to where drafting on devices pays.

Each answer is searched by halving, with the same seeds everywhere. Drafting on devices *pays* against another way where
the objective is better by more than :data:`GAIN`: a policy that may fall back on that other way never loses much, and
where it gains nothing any more is what one wants to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsdq.errors import ConfigError
from dsdq.sim.baselines import COLOCATED, OBJECTIVES, TARGET_ONLY, check_objective, colocated, score, target_only
from dsdq.sim.outcome import Outcome
from dsdq.sim.replications import replicate, result, way
from dsdq.sim.runners import Runner
from dsdq.sim.scenario.model import Scenario, Way
from dsdq.sim.search import least
from dsdq.sim.statistics import mean
from dsdq.sim.variations import Variant, with_acceptance, with_count, with_rtt

GAIN = 0.01
MOST_VERIFIERS = 10_000
MOST_RTT_MS = 1000
_STEPS = 100
"""Of acceptance, which is searched in hundredths."""

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
        ConfigError: devices do not draft in this scenario, or there is no such objective.
    """
    if scenario.way is not Way.DISTRIBUTED:
        raise ConfigError(f"way: expected {DISTRIBUTED}, which the others are held against, got {scenario.way}")
    check_objective(objective)
    return {
        DISTRIBUTED: Variant({}, scenario),
        TARGET_ONLY: target_only(scenario),
        COLOCATED: colocated(run, scenario, objective),
    }


def served_well(outcomes: Sequence[Outcome]) -> float:
    """Return the share of good requests, of those that were finished or refused, on average over seeds."""
    shares = []
    for one in outcomes:
        finished, refused = one.figures["finished"], one.figures["refused"]
        shares.append(one.figures["good_share"] * finished / (finished + refused) if finished else 0.0)
    return math.fsum(shares) / len(shares)


def enough(run: Runner, variant: Variant, question: Question) -> tuple[int | None, list[Outcome]]:
    """Return the least number of verifiers with which enough requests are good, and what comes of it.

    None, and the outcomes at the most that were tried, where more verifiers do not help: each session would have its
    own.
    """
    most = min(MOST_VERIFIERS, max(1, sum(devices.count for devices in variant.scenario.devices.values())))
    known: dict[int, list[Outcome]] = {}

    def holds(counts: Sequence[int]) -> list[bool]:
        known.update(_each(run, counts, question, lambda count: with_count(variant.scenario, count)))
        return [served_well(known[count]) >= question.good for count in counts]

    found = _doubling(holds, min(variant.scenario.verifiers.count, most), most)
    return found, known[most if found is None else found]


def _doubling(holds: Callable[[Sequence[int]], list[bool]], begin: int, most: int) -> int | None:
    """Search from a first guess: what is far from it costs most to simulate."""
    if holds([begin])[0]:
        return least(holds, 1, begin)
    low = begin
    while low < most:
        high = min(2 * low, most)
        if holds([high])[0]:
            return least(holds, low, high)
        low = high
    return None


def break_even_rtt_ms(run: Runner, ours: Variant, theirs: Variant, question: Question) -> float | None:
    """Return up to which round trip drafting on devices pays, in whole ms; None: it never does.

    Where it pays at :data:`MOST_RTT_MS` too, that is the answer.
    """

    def lost(places: Sequence[int]) -> list[bool]:
        return _lost(run, ours, theirs, question, _at_rtt, places)

    found = least(lost, 0, MOST_RTT_MS)
    return float(MOST_RTT_MS) if found is None else found - 1.0 if found else None


def break_even_acceptance(run: Runner, ours: Variant, theirs: Variant, question: Question) -> float | None:
    """Return from which acceptance on drafting on devices pays, in hundredths; None: it never does."""

    def pays(places: Sequence[int]) -> list[bool]:
        return [not one for one in _lost(run, ours, theirs, question, _at_acceptance, places)]

    found = least(pays, 0, _STEPS)
    return None if found is None else found / _STEPS


def _at_rtt(scenario: Scenario, place: int) -> Scenario:
    return with_rtt(scenario, float(place))


def _at_acceptance(scenario: Scenario, place: int) -> Scenario:
    return with_acceptance(scenario, place / _STEPS)


def _lost(
    run: Runner,
    ours: Variant,
    theirs: Variant,
    question: Question,
    at: Callable[[Scenario, int], Scenario],
    places: Sequence[int],
) -> list[bool]:
    """Say at which places one way is not better than another by enough."""
    both = {f"{number}": variant.scenario for number, variant in enumerate((ours, theirs))}
    found = replicate(
        run, {f"{name} {place}": at(one, place) for name, one in both.items() for place in places}, question.seeds
    )
    sign, objective = OBJECTIVES[question.objective], question.objective
    lost = []
    for place in places:
        our, their = (sign * score(found[f"{name} {place}"], objective) for name in both)
        lost.append(not (our > their * (1 + GAIN) if sign > 0 else our < their * (1 - GAIN)))
    return lost


def _each(
    run: Runner, places: Sequence[int], question: Question, at: Callable[[int], Scenario]
) -> Mapping[int, list[Outcome]]:
    found = replicate(run, {str(place): at(place) for place in places}, question.seeds)
    return {place: found[str(place)] for place in places}


def plan(run: Runner, scenario: Scenario, question: Question) -> dict[str, Any]:
    """Return all answers as a result: ``verifiers`` by way, and ``break_even`` by what varies and the other way.

    Raises:
        ConfigError: devices do not draft in this scenario, or there is no such objective.
    """
    variants = ways(run, scenario, question.objective)
    verifiers, shown = {}, {}
    for name, variant in variants.items():
        count, outcomes = enough(run, variant, question)
        verifiers[name] = _answer(count, outcomes)
        sets = dict(variant.sets) if count is None else {**variant.sets, "verifiers.count": count}
        shown[name] = way(Variant(sets, variant.scenario), outcomes)
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
