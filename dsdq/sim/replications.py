"""A scenario with several seeds, in several ways: means, 95 % confidence intervals, and paired differences.

All ways have the same seeds, and with them the same texts, guesses and delays (:mod:`dsdq.sim.streams`): so a
difference is taken seed by seed, and scatters far less than what it is a difference of.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from dsdq.sim.outcome import Outcome, Task
from dsdq.sim.runners import Runner, in_order
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.statistics import Interval, interval, mean
from dsdq.sim.variations import Variant, seeded


def replicate(run: Runner, scenarios: Mapping[str, Scenario], seeds: int) -> dict[str, list[Outcome]]:
    """Simulate each scenario with the same number of seeds; return the outcomes by name, in the order of seeds."""
    tasks = [Task(one) for scenario in scenarios.values() for one in seeded(scenario, seeds)]
    outcomes = in_order(run, tasks)
    return {name: outcomes[seeds * number : seeds * (number + 1)] for number, name in enumerate(scenarios)}


def result(kind: str, scenario: Scenario, seeds: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the beginning of a result's document: all that it takes to repeat it, and ``more``."""
    return {
        "kind": kind,
        "version": version("dsdq"),
        "scenario": scenario.model_dump(mode="json", exclude_none=True),
        "seeds": list(range(scenario.seed, scenario.seed + seeds)),
        **more,
    }


def way(variant: Variant, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what replications of one way came to, as a document.

    ``figures`` are means and ``intervals`` those of their 95 % confidence, ``each`` what each seed came to. Quantiles
    are means of the replications' quantiles, and the course over time is that of their mean.
    """
    each = {name: [one.figures[name] for one in outcomes] for name in outcomes[0].figures}
    windows: Counter[str] = Counter()
    for one in outcomes:
        windows.update(one.windows)
    return {
        "set": dict(variant.sets),
        "about": variant.about,
        "figures": {name: mean(values) for name, values in each.items()},
        "intervals": {name: interval(values) for name, values in each.items()},
        "each": each,
        "windows": dict(windows.most_common()),
        "quantiles": _means([one.quantiles for one in outcomes]),
        "series": _means([one.series for one in outcomes]),
    }


def differences(base: Sequence[Outcome], other: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Return for each figure how another way differs from one, seed by seed.

    ``difference`` and ``ratio`` are means over seeds, each with its 95 % ``interval``; ``told_apart`` says whether
    that of the difference leaves out 0.
    """
    return {
        name: _difference([one.figures[name] for one in base], [one.figures[name] for one in other])
        for name in base[0].figures
    }


def _difference(base: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    apart = [0.0 if _same(ours, theirs) else theirs - ours for ours, theirs in zip(base, other, strict=True)]
    ratios = [theirs / ours if ours else math.nan for ours, theirs in zip(base, other, strict=True)]
    within = interval(apart)
    return {
        "difference": mean(apart),
        "interval": within,
        "ratio": mean(ratios),
        "ratio_interval": interval(ratios),
        "told_apart": within is not None and _leaves_out_zero(within),
    }


def _same(one: float, other: float) -> bool:
    """Say whether figures differ by rounding at most: sums in another order."""
    return math.isclose(one, other, rel_tol=1e-12)


def _leaves_out_zero(within: Interval) -> bool:
    return within[0] > 0 or within[1] < 0


def _means(tables: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Return for each name the mean of lists, place by place, of those that are not empty."""
    found = {}
    for name in tables[0]:
        lists = [table[name] for table in tables if table[name]]
        found[name] = [math.fsum(values) / len(values) for values in zip(*lists, strict=True)]
    return found
