"""Ways of working side by side: key figures, latencies, the course over time, windows, where time goes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from dsdq.sim.report.charts import Bar, Labels, Line, bars, columns, lines, stacks, swatch
from dsdq.sim.report.layout import card, cards, legend, section, table
from dsdq.sim.report.markup import tag
from dsdq.sim.results import Result, Way
from dsdq.sim.rows import figures, has, with_reach
from dsdq.sim.wording import number

KEYS = (
    ("tokens_per_s", "Throughput", "tokens a second; more is better"),
    ("good_requests_per_s", "Goodput", "requests a second within the SLO; more is better"),
    ("tpot_ms", "Time per token (TPOT)", "ms, mean; less is better"),
    ("ttft_ms", "Time to the first token (TTFT)", "ms, mean; less is better"),
    ("e2e_ms", "Time for a whole text", "ms, mean; less is better"),
    ("cost_per_million", "Cost of 1M tokens", "of verifiers and their energy; less is better"),
)
"""What is compared at first sight: a figure, its title, and its unit."""

_TILES = (
    ("tokens_per_s", "tokens a second"),
    ("tpot_ms", "ms per token"),
    ("ttft_ms", "ms to the first token"),
    ("good_share", "of requests within the SLO"),
    ("cost_per_million", "per 1M tokens"),
)
_WAITS = (
    ("place_ms_per_token", "waits for a place"),
    ("queue_ms_per_token", "waits at the verifier"),
    ("verify_ms_per_token", "is verified"),
    ("network_ms_per_token", "is under way"),
    ("draft_ms_per_token", "is drafted"),
)
_ALL_THE_TIME = 0.995
_REFERENCE = "target-only"


def tiles(result: Result) -> Element:
    """Return the first way's key figures, large, each beside what the cloud alone comes to, if it was simulated."""
    name, first = next(iter(result.ways.items()))
    reference = result.ways.get(_REFERENCE) if name != _REFERENCE else None
    made = [_tile(result, figure, label, first, reference) for figure, label in _TILES if has([first], figure)]
    return tag("dl", *made, class_="tiles", aria_label=f"Key figures of {name}")


def _tile(result: Result, figure: str, label: str, way: Way, reference: Way | None) -> Element:
    money = f"{result.scenario.prices.currency} " if figure == "cost_per_million" else ""
    parts = [tag("dt", label), tag("dd", f"{money}{number(way.value(figure), figure)}")]
    if reference is not None:
        parts.append(tag("dd", f"{_REFERENCE}: {number(reference.value(figure), figure)}", class_="beside"))
    return tag("div", *parts)


def key_figures(ways: Mapping[str, Way]) -> Element:
    """Return bars of key figures, with their 95 % confidence intervals."""
    shown = [
        card(title, bars(title, figure_bars(ways, figure)), unit)
        for figure, title, unit in KEYS
        if has(ways.values(), figure)
    ]
    meaning = [tag("li", tag("b", name), f": {told}") for name, way in ways.items() if (told := _told(way))]
    note = "Whiskers are 95 % confidence intervals of the mean over seeds, which all ways have in common."
    listed = [tag("ul", *meaning, class_="meaning")] if meaning else []
    return section("Side by side", cards(*shown), *listed, note=note)


def figure_bars(ways: Mapping[str, Way], figure: str) -> list[Bar]:
    """Return a bar of a figure for each way."""
    return [
        Bar(name, way.value(figure), with_reach(way, figure), way.interval(figure), place)
        for place, (name, way) in enumerate(ways.items())
    ]


def _told(way: Way) -> str:
    """Return what is set for a way, and why."""
    sets = ", ".join(f"{field} = {value}" for field, value in way.set.items())
    return "; ".join(part for part in (way.about, sets) if part)


def latencies(ways: Mapping[str, Way]) -> Element:
    """Return how latencies are distributed."""
    titles = {"ttft_ms": "Time to the first token", "tpot_ms": "Time per token", "e2e_ms": "Time for a whole text"}
    shown = [
        card(title, lines(Labels(title, "ms", "% of requests, at most so long"), drawn, most=100.0))
        for figure, title in titles.items()
        if (drawn := list(_distributions(ways, figure)))
    ]
    note = "The further to the left, the quicker. An axis is logarithmic where latencies lie far apart."
    return section("Latencies", legend(list(ways), line=True), cards(*shown), note=note)


def _distributions(ways: Mapping[str, Way], figure: str) -> Iterator[Line]:
    for place, (name, way) in enumerate(ways.items()):
        found = way.quantiles.get(figure) or []
        last = max(len(found) - 1, 1)
        if found:
            yield Line(name, [(value, 100 * step / last) for step, value in enumerate(found)], colour=place)


def course(ways: Mapping[str, Way], warm_up_s: float) -> Element:
    """Return the course over time, up to where nothing is measured any more."""
    shown = []
    for name, title in (("tokens_per_s", "Tokens a second"), ("running", "Texts in the making")):
        drawn = [
            Line(way, list(zip(one.series["t_s"], one.series[name], strict=False)), colour=place)
            for place, (way, one) in enumerate(ways.items())
            if one.series.get(name) and one.series.get("t_s")
        ]
        if drawn:
            shown.append(card(title, lines(Labels(title, "s"), drawn, wide=float("inf"))))
    note = f"Mean over seeds. The first {warm_up_s:g} s are not in any figure." if warm_up_s else "Mean over seeds."
    return section("Over time", legend(list(ways), line=True), cards(*shown), note=note)


def waits(ways: Mapping[str, Way]) -> Element:
    """Return where the time of a token goes."""
    parts = [label for _, label in _WAITS]
    values = [[way.value(figure) for figure, _ in _WAITS] for way in ways.values()]
    title = "Where the time of a token goes"
    picture = card(title, stacks(title, list(ways), parts, values), "ms per token of a finished text")
    head = tag("tr", *(tag("th", text, scope="col") for text in ("A token", *ways)))
    body = [
        tag(
            "tr", tag("th", swatch(place), f" {label}", scope="row"), *(tag("td", number(row[place])) for row in values)
        )
        for place, label in enumerate(parts)
    ]
    numbers = tag("table", tag("caption", "ms per token"), tag("thead", head), tag("tbody", *body))
    beside = tag("div", numbers, class_="wide span", role="region", aria_label="ms per token", tabindex="0")
    note = "Drafting goes on while windows are under way, and what is drafted in vain counts: parts may overlap."
    return section(title, tag("div", picture, beside, class_="cards"), note=note)


def windows(ways: Mapping[str, Way]) -> Element:
    """Return how wide the windows were that devices chose; what is always the same is said in words."""
    shown, constant = [], []
    for name, way in ways.items():
        total = sum(way.windows.values())
        most = max(way.windows, key=lambda window: way.windows[window], default="")
        if total and way.windows[most] < _ALL_THE_TIME * total:
            shown.append(_histogram(name, way.windows, total))
        elif total:
            constant.append(tag("li", tag("b", name), f": always {window_name(most)}"))
    listed = [tag("ul", *constant, class_="meaning")] if constant else []
    return section("Windows", *([cards(*shown)] if shown else []), *listed)


def _histogram(name: str, windows: Mapping[str, int], total: int) -> Element:
    """Return the share of verdicts by tokens of a window, by who drafts and how many are in flight."""
    groups = list(dict.fromkeys(_group(window)[0] for window in sorted(windows, key=lambda one: -windows[one])))
    heights: dict[int, list[float]] = {}
    for window, count in windows.items():
        group, tokens = _group(window)
        heights.setdefault(tokens, [0.0] * len(groups))[groups.index(group)] += 100 * count / total
    picture = columns(Labels(f"Windows of {name}", "tokens of a window", "% of verdicts"), groups, heights)
    made = card(name, picture)
    made.append(legend(groups))
    return made


def _group(name: str) -> tuple[str, int]:
    """Return who drafts, with how many windows in flight, and how many tokens: ``8x2`` is 8 tokens, two in flight."""
    found = re.fullmatch(r"(?:([a-z-]+):)?(\d+)(?:x(\d+))?", name)
    if found is None:
        return name, 0
    mode, tokens, depth = found.groups()
    return mode or f"devices draft, {depth} in flight", int(tokens)


def window_name(name: str) -> str:
    """Return a window in words."""
    group, tokens = _group(name)
    return f"{tokens} token{'s' * (tokens != 1)} ({group})" if tokens else group


def all_figures(ways: Mapping[str, Way], currency: str) -> Element:
    """Return a table of all figures: latencies with their percentiles, rates, waste, energy, cost."""
    return section(
        "All figures: latency, waste, energy, cost",
        table("Means over seeds", ("", *ways), list(figures(ways, currency))),
    )
