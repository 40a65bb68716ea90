"""Results as tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdq.sim.wording import LATENCIES, OTHERS, number

SWEPT = ("tokens_per_s", "good_share", "ttft_ms", "tpot_ms", "acceptance")
_NOTHING = 1e-9
_LABEL_WIDTH, _WAY_WIDTH = 25, 13


def headline(document: Mapping[str, Any]) -> str:
    """Return what was simulated, in a line."""
    scenario, seeds = document["scenario"], document["seeds"]
    devices = sum(one["count"] for one in scenario["devices"].values())
    last = f" to {seeds[-1]}" if len(seeds) > 1 else ""
    return (
        f"{scenario['name']}: {_counted(devices, 'device')}, {_counted(scenario['verifiers']['count'], 'verifier')}, "
        f"{scenario['duration_s']:g} s, seed{'s' * (len(seeds) > 1)} {seeds[0]}{last}"
    )


def show_ways(console: Console, document: Mapping[str, Any]) -> None:
    """Print the figures of all ways side by side, several tables where they do not fit beside one another."""
    say(console, headline(document))
    fits = max(1, (console.width - _LABEL_WIDTH) // _WAY_WIDTH)
    every = list(document["ways"])
    for names in (every[begin : begin + fits] for begin in range(0, len(every), fits)):
        table = Table("", box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for name in names:
            table.add_column(name, justify="right")
        for label, cells in _rows([document["ways"][name] for name in names]):
            table.add_row(label, *cells)
        console.print(table)
    for name, way in document["ways"].items():
        sets = ", ".join(f"{field}={value}" for field, value in way["set"].items())
        say(console, f"{name}: {_windows(way)}" + (f" ({sets})" if sets else ""))
        if way["about"]:
            say(console, f"  {way['about']}")


def _rows(ways: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    for name, label in LATENCIES:
        yield f"{label}", [_with_reach(way, name) for way in ways]
        for percent in ("p50", "p95", "p99"):
            yield f"  {percent}", [number(way["figures"][f"{name}_{percent}"], name) for way in ways]
    for name, label in OTHERS:
        if any(way["figures"][name] for way in ways):
            yield label, [_with_reach(way, name) for way in ways]


def _with_reach(way: Mapping[str, Any], name: str) -> str:
    shown, within = number(way["figures"][name], name), way["intervals"][name]
    reach = 0.0 if within is None else (within[1] - within[0]) / 2
    return f"{shown} ±{number(reach, name, digits=2)}" if reach > _NOTHING * abs(way["figures"][name]) else shown


def _windows(way: Mapping[str, Any]) -> str:
    total = sum(way["windows"].values())
    most = list(way["windows"].items())[:4]
    return "windows " + ", ".join(f"{name} {count / total:.0%}" for name, count in most) if most else "no verdict"


def show_differences(console: Console, document: Mapping[str, Any]) -> None:
    """Print how the variants of a comparison differ from the first, where that can be told."""
    base = document["base"]
    for name, found in document["differences"].items():
        say(console, f"{name} against {base}")
        table = Table("", "difference", "95 %", "ratio", "95 %", box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for figure, label in (*LATENCIES, *OTHERS):
            one = found[figure]
            if not one["told_apart"]:
                if one["difference"]:
                    table.add_row(label, Text("not told apart", style="dim"), _span(one["interval"], figure))
                continue
            table.add_row(
                label,
                number(one["difference"], figure),
                _span(one["interval"], figure),
                number(one["ratio"]),
                _span(one["ratio_interval"]),
            )
        console.print(table)


def show_sweep(console: Console, document: Mapping[str, Any]) -> None:
    """Print a row for each cell of a sweep: what varies, and some figures."""
    say(console, headline(document))
    fields = [field.rpartition(".")[2] for field in document["vary"]]
    table = Table(*fields, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in SWEPT:
        table.add_column(name, justify="right", no_wrap=True)
    for way in document["ways"].values():
        table.add_row(*map(str, way["set"].values()), *(_with_reach(way, name) for name in SWEPT))
    console.print(table)


def show_plan(console: Console, document: Mapping[str, Any]) -> None:
    """Print how many verifiers each way needs, and where drafting on devices begins or ends to pay."""
    say(console, headline(document))
    currency = document["scenario"]["prices"]["currency"]
    table = Table("", "verifiers", "within the SLO", "busy", "tokens/s", f"{currency} per 1M", box=None, pad_edge=False)
    for name, found in document["verifiers"].items():
        table.add_row(
            name,
            "none is enough" if found["count"] is None else str(found["count"]),
            number(found["good"], "good_share"),
            number(found["utilisation"], "utilisation"),
            number(found["tokens_per_s"]),
            number(found["cost_per_million"]),
        )
    console.print(table)
    for name, way in document["ways"].items():
        if way["about"]:
            say(console, f"{name}: {way['about']}")
    gain, objective = document["gain"], document["objective"]
    say(console, f"Drafting on devices is better in {objective} by more than {gain:.0%}")
    for varied, sentence in (("rtt_ms", "up to a round trip of {:g} ms"), ("acceptance", "from an acceptance of {:g}")):
        for name, end in document["break_even"][varied].items():
            where = "nowhere" if end["value"] is None else sentence.format(end["value"])
            if varied == "rtt_ms" and end["value"] == document["most_rtt_ms"]:
                where += ", the longest that was tried"
            say(console, f"  than {name}: {where}{_cost(end, currency, name)}")


def _cost(end: Mapping[str, Any], currency: str, name: str) -> str:
    costs = end["cost_per_million"]
    if not costs or not costs["ours"]:
        return ""
    return f" ({currency} {number(costs['ours'])} per 1M tokens there, {name} {number(costs['theirs'])})"


def say(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _span(within: Sequence[float] | None, name: str = "") -> str:
    return "-" if within is None else f"{number(within[0], name)} … {number(within[1], name)}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
