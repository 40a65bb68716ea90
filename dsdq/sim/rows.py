"""Results as sentences and rows of tables, on a terminal and a page alike. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from dsdq.sim.results import Difference, End, Result, Way, known
from dsdq.sim.wording import LATENCIES, OTHERS, counted, number, span

Row = tuple[str, ...]

NOT_TOLD_APART = "not told apart"
DIFFERENCE = ("", "difference", "95 %", "ratio", "95 %")
"""The head of :func:`differences`."""

_ROUNDING = 1e-9


def sentence(result: Result) -> str:
    """Return what was simulated, for how long and with which seeds."""
    scenario, seeds = result.scenario, result.seeds
    devices = sum(one.count for one in scenario.devices.values())
    unmeasured = " and ".join(
        f"the {which} {spent_s:g} s"
        for which, spent_s in (("first", scenario.warm_up_s), ("last", scenario.cool_down_s))
        if spent_s
    )
    measured = f", of which {unmeasured} are not measured" if unmeasured else ""
    luck = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    varied = f" What varies: {', '.join(result.vary)}." if result.vary else ""
    return (
        f"{counted(devices, 'device')} and {counted(scenario.verifiers.count, 'verifier')}, "
        f"{scenario.duration_s:g} s{measured}, with {luck}.{varied}"
    )


def has(ways: Iterable[Way], figure: str) -> bool:
    """Say whether a figure is anything but 0 or nothing in any of some ways."""
    return any(math.isfinite(value := way.value(figure)) and value for way in ways)


def with_reach(way: Way, figure: str) -> str:
    """Return a figure as it is written, with half the width of its interval."""
    shown, reach = number(way.value(figure), figure), way.reach(figure)
    return f"{shown} ±{number(reach, figure, digits=2)}" if reach > _ROUNDING * abs(way.value(figure)) else shown


def figures(ways: Mapping[str, Way], currency: str) -> Iterator[Row]:
    """Yield a row for each figure that is anything in one of the ways: its name, and what each way came to."""
    for figure, label in LATENCIES:
        yield label, *(with_reach(way, figure) for way in ways.values())
        for percent in ("p50", "p95", "p99"):
            yield f"{label}, {percent}", *(number(way.value(f"{figure}_{percent}")) for way in ways.values())
    for figure, label in OTHERS:
        if has(ways.values(), figure):
            money = f", {currency}" if figure.endswith("per_million") else ""
            yield label + money, *(with_reach(way, figure) for way in ways.values())


def differences(found: Mapping[str, Difference]) -> Iterator[Row]:
    """Yield a row for each figure that differs from the base's, though it may not be told apart."""
    for figure, label in chain(LATENCIES, OTHERS):
        one = found.get(figure)
        if one is None or not one.difference:
            continue
        within = span(known(one.interval), figure)
        if one.told_apart:
            ratio = number(one.ratio), span(known(one.ratio_interval))
            yield label, number(one.difference, figure), within, *ratio
        else:
            yield label, NOT_TOLD_APART, within, "-", "-"


def capacity(result: Result) -> tuple[Row, list[Row]]:
    """Return how many verifiers each way of a plan needs: a head, and a row for each."""
    rows: list[Row] = [
        (
            name,
            "none is enough" if one.count is None else f"{one.count:,}",
            number(one.good, "good_share"),
            number(one.utilisation, "utilisation"),
            number(one.tokens_per_s),
            number(one.cost_per_million),
        )
        for name, one in result.verifiers.items()
    ]
    currency = result.scenario.prices.currency
    return ("", "verifiers", "within the SLO", "busy", "tokens/s", f"{currency} per 1M tokens"), rows


def up_to_rtt(end: End, most_rtt_ms: float | None) -> str:
    """Return up to which round trip drafting on devices pays."""
    if end.value is None:
        return "nowhere"
    longest = ", the longest that was tried" if end.value == most_rtt_ms else ""
    return f"up to a round trip of {end.value:g} ms{longest}"


def from_acceptance(end: End) -> str:
    """Return from which acceptance on drafting on devices pays."""
    return "nowhere" if end.value is None else f"from an acceptance of {end.value:g} on"
