"""Results as tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dsdq.sim import rows
from dsdq.sim.results import End, Result, Way
from dsdq.sim.rows import NOT_TOLD_APART, with_reach
from dsdq.sim.wording import number

SWEPT = ("tokens_per_s", "good_share", "ttft_ms", "tpot_ms", "acceptance")
_LABEL_WIDTH, _WAY_WIDTH = 25, 13
_MOST_WINDOWS = 4


def show_ways(console: Console, result: Result) -> None:
    """Print the figures of all ways side by side, several tables where they do not fit beside one another."""
    _headline(console, result)
    fits = max(1, (console.width - _LABEL_WIDTH) // _WAY_WIDTH)
    names, found = list(result.ways), list(rows.figures(result.ways, result.scenario.prices.currency))
    for begin in range(0, len(names), fits):
        beside = slice(begin, begin + fits)
        _show(console, ("", *names[beside]), [(label, *cells[beside]) for label, *cells in found], right=True)
    for name, way in result.ways.items():
        sets = ", ".join(f"{field}={value}" for field, value in way.set.items())
        say(console, f"{name}: {_windows(way)}" + (f" ({sets})" if sets else ""))
        if way.about:
            say(console, f"  {way.about}")


def _windows(way: Way) -> str:
    total = sum(way.windows.values())
    most = list(way.windows.items())[:_MOST_WINDOWS]
    return "windows " + ", ".join(f"{name} {count / total:.0%}" for name, count in most) if most else "no verdict"


def show_differences(console: Console, result: Result) -> None:
    """Print how the variants of a comparison differ from the first, where that can be told."""
    for name, found in result.differences.items():
        say(console, f"{name} against {result.base}")
        _show(console, rows.DIFFERENCE, rows.differences(found))


def show_sweep(console: Console, result: Result) -> None:
    """Print a row for each cell of a sweep: what varies, and some figures."""
    _headline(console, result)
    table = _table()
    for field in result.vary:
        table.add_column(Text(field.rpartition(".")[2]))
    for name in SWEPT:
        table.add_column(name, justify="right", no_wrap=True)
    for way in result.ways.values():
        _add(table, (*map(str, way.set.values()), *(with_reach(way, name) for name in SWEPT)))
    console.print(table)


def show_plan(console: Console, result: Result) -> None:
    """Print how many verifiers each way needs, and where drafting on devices begins or ends to pay."""
    _headline(console, result)
    _show(console, *rows.capacity(result))
    for name, way in result.ways.items():
        if way.about:
            say(console, f"{name}: {way.about}")
    say(console, f"Drafting on devices is better in {result.objective} by more than {result.gain or 0.0:.0%}")
    currency = result.scenario.prices.currency
    for name, end in result.break_even["rtt_ms"].items():
        say(console, f"  than {name}: {rows.up_to_rtt(end, result.most_rtt_ms)}{_cost(end, currency, name)}")
    for name, end in result.break_even["acceptance"].items():
        say(console, f"  than {name}: {rows.from_acceptance(end)}{_cost(end, currency, name)}")


def _cost(end: End, currency: str, name: str) -> str:
    costs = end.cost_per_million
    if not costs or not costs["ours"]:
        return ""
    return f" ({currency} {number(costs['ours'])} per 1M tokens there, {name} {number(costs['theirs'])})"


def say(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _headline(console: Console, result: Result) -> None:
    say(console, f"{result.scenario.name}: {rows.sentence(result)}")


def _show(console: Console, head: Sequence[str], found: Iterable[rows.Row], *, right: bool = False) -> None:
    table = _table()
    for place, name in enumerate(head):
        table.add_column(Text(name), justify="right" if right and place else "left")
    for row in found:
        _add(table, row)
    console.print(table)


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))


def _add(table: Table, row: Iterable[str]) -> None:
    table.add_row(*(Text(cell, style="dim" if cell == NOT_TOLD_APART else "") for cell in row))
