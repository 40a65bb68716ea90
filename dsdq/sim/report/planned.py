"""What a plan found: how many verifiers each way needs, and where drafting on devices pays. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from dsdq.sim import rows
from dsdq.sim.report.charts import Labels, Line, lines, spans
from dsdq.sim.report.layout import card, cards, legend, section, table
from dsdq.sim.results import End, Result
from dsdq.sim.wording import number


def capacity(result: Result) -> Element:
    """Return the curve of how well devices are served by so many verifiers, and the least that are enough."""
    good = result.good or 0.0
    head, found = rows.capacity(result)
    drawn = [
        Line(name, [(float(tried.count), 100 * tried.good) for tried in one.tried], colour=place, dots=True)
        for place, (name, one) in enumerate(result.verifiers.items())
        if one.tried
    ]
    title = "How many verifiers it takes"
    picture = lines(Labels(title, "verifiers", "% of requests within the SLO"), drawn, most=100.0, level=100 * good)
    shown = [legend(list(result.verifiers), line=True), cards(card(title, picture))] if drawn else []
    note = f"Enough is where {good:.0%} of requests keep to the SLO (the broken line)."
    return section("Capacity", *shown, table("The least number that is enough", head, found), note=note)


def break_evens(result: Result) -> Element:
    """Return up to which round trip, and from which acceptance on, drafting on devices is better."""
    most = result.most_rtt_ms or 0.0
    rtt = [
        (f"better than {name}", rows.up_to_rtt(end, most), None if end.value is None else (0.0, end.value))
        for name, end in result.break_even.get("rtt_ms", {}).items()
    ]
    acceptance = [
        (f"better than {name}", rows.from_acceptance(end), None if end.value is None else (end.value, 1.0))
        for name, end in result.break_even.get("acceptance", {}).items()
    ]
    shown = [
        card("Round trip", spans("Round trips at which drafting on devices pays", rtt, (0.0, most or 1.0), "ms")),
        card("Acceptance", spans("Acceptances at which drafting on devices pays", acceptance, (0.0, 1.0), "")),
    ]
    note = f"Where {result.objective} is better by more than {result.gain or 0.0:.0%} if devices draft."
    return section("Where drafting on devices pays", cards(*shown), *_costs(result), note=note)


def _costs(result: Result) -> list[Element]:
    """Return a table of what a million tokens costs at each break-even, if it costs anything."""
    currency = result.scenario.prices.currency
    names: Mapping[str, str] = {"rtt_ms": "round trip, ms", "acceptance": "acceptance"}
    found = [
        (f"{names.get(varied, varied)}, {name}", number(end.value), *_both(end))
        for varied, ends in result.break_even.items()
        for name, end in ends.items()
        if any((end.cost_per_million or {}).values())
    ]
    head = ("Break-even with", "at", f"{currency} per 1M, devices draft", "the other way")
    return [table("What a million tokens costs there", head, found)] if found else []


def _both(end: End) -> tuple[str, str]:
    costs = end.cost_per_million or {}
    return number(costs.get("ours")), number(costs.get("theirs"))
