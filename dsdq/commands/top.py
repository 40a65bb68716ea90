"""``dsdq top``: what a service does at the moment, by verifier and by tenant, on a screen or as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from contextlib import aclosing
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dsdq.bus.address import shown
from dsdq.bus.connection import open_redis
from dsdq.bus.figures import FiguresStore
from dsdq.errors import RedisUnavailableError
from dsdq.settings import settings
from dsdq.telemetry.overview import Overview, Rates, Trail

WIDE = 100  # columns from which names are shown whole
MOST_TENANTS = 10
UNKNOWN = "-"
READINGS = 4  # of which the last one has to do, for ``--once``


def top(
    redis: Annotated[str | None, typer.Option(help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")] = None,
    interval_s: Annotated[float, typer.Option(min=0.2, help="Seconds between two readings.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show what two readings tell, once.")] = False,  # noqa: FBT002
    as_json: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--json", help="Print one JSON document in a line for each reading.")
    ] = False,
) -> None:
    """Show what the service does at the moment, until interrupted."""
    url = redis or settings().redis_url
    board = _Board(shown(url), Console(), as_json=as_json)
    asyncio.run(_once(url, interval_s, board) if once else _watch(url, interval_s, board))


async def _once(url: str, interval_s: float, board: _Board) -> None:
    async with aclosing(open_redis(url)) as redis:
        store, trail = FiguresStore(redis), Trail()
        for number in range(READINGS):
            reading = await store.read()
            overview = trail.add(reading.snapshots, reading.silent)
            if number and trail.complete:
                break
            await asyncio.sleep(interval_s)
        board.show(overview)


async def _watch(url: str, interval_s: float, board: _Board) -> None:
    """Show readings until a signal comes. While Redis is away that is said, and it is asked again."""
    stop, trail = asyncio.Event(), Trail()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aclosing(open_redis(url)) as redis:
        store = FiguresStore(redis)
        stopping = asyncio.create_task(stop.wait())
        with board.open():
            while not stop.is_set():
                reading = asyncio.create_task(store.read())
                await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    break
                try:
                    read = reading.result()
                    board.show(trail.add(read.snapshots, read.silent))
                except RedisUnavailableError as error:
                    board.complain(str(error))
                await asyncio.wait([stopping], timeout=interval_s)
        stopping.cancel()


class _Board:
    """Where overviews are shown: a screen that is drawn again, lines where there is none, JSON where it is wanted."""

    def __init__(self, place: str, console: Console, *, as_json: bool) -> None:
        self._place, self._console, self._as_json = place, console, as_json
        self._last: RenderableType = Text("")
        self._live: Live | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the screen for the block, if there is one and it is wanted."""
        if self._as_json or not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, screen=True, auto_refresh=False) as self._live:
            yield

    def show(self, overview: Overview) -> None:
        """Show one overview."""
        if self._as_json:
            typer.echo(json.dumps(overview.document()))
            return
        self._last = render(overview, self._place, self._console.width)
        self._draw(self._last)

    def complain(self, reason: str) -> None:
        """Say why there is no overview, above the last one."""
        if self._as_json:
            typer.echo(json.dumps({"error": reason}))
        else:
            self._draw(Group(Text(f"{reason}; trying again", style="bold red"), self._last))

    def _draw(self, content: RenderableType) -> None:
        if self._live is None:
            self._console.print(content)
        else:
            self._live.update(content, refresh=True)


def render(overview: Overview, place: str, columns: int) -> RenderableType:
    """Return an overview as text of so many columns."""
    if not overview.verifiers:
        return Text(f"no verifier serves at {place}", style="yellow")
    parts: list[RenderableType] = [_totals(overview, place), _workers(overview, wide=columns >= WIDE)]
    if overview.silent:
        parts.append(Text(f"without figures: {', '.join(overview.silent)}", style="dim"))
    if overview.tenants:
        parts += [Text(""), _tenants(overview)]
    return Group(*parts)


def _totals(overview: Overview, place: str) -> Text:
    rates = overview.rates
    facts = (
        f"verifiers {overview.verifiers}",
        f"sessions {overview.sessions}" + (f", {overview.waiting} wait" if overview.waiting else ""),
        f"{_number(rates.tokens_per_s)} tokens/s",
        f"acceptance {_share(rates.acceptance)}",
        f"rows/step {_number(rates.rows_per_step, 1)}",
        f"takeovers {overview.takeovers}",
    )
    text = Text().append(place, style="dim").append("\n").append("   ".join(facts), style="bold")
    if overview.refusals:
        text.append("\nrefused " + ", ".join(f"{code} {count}" for code, count in overview.refusals))
    return text.append("\n")


def _workers(overview: Overview, *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("verifier", no_wrap=True, width=16 if wide else 8, overflow="ellipsis")
    table.add_column("model", overflow="ellipsis")  # the only one that gives way
    for name in ("held", "wait", "tokens/s", "accept", "rows", "steps/s", "KV", "age"):
        table.add_column(name, no_wrap=True, justify="right")
    for one in overview.workers:
        table.add_row(
            Text(one.worker),
            Text(one.model),
            f"{one.sessions}/{one.slots}",
            str(one.waiting),
            *_rates(one.rates),
            _share(one.kv_usage),
            f"{one.age_s:.0f}s",
        )
    return table


def _rates(rates: Rates) -> tuple[str, str, str, str]:
    return (
        _number(rates.tokens_per_s),
        _share(rates.acceptance),
        _number(rates.rows_per_step, 1),
        _number(rates.steps_per_s),
    )


def _tenants(overview: Overview) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("tenant", no_wrap=True, min_width=16, overflow="ellipsis")
    for name in ("sessions", "tokens/s"):
        table.add_column(name, no_wrap=True, justify="right")
    for one in overview.tenants[:MOST_TENANTS]:
        table.add_row(Text(one.tenant), str(one.sessions), _number(one.tokens_per_s))
    if len(overview.tenants) > MOST_TENANTS:
        table.add_row(Text(f"and {len(overview.tenants) - MOST_TENANTS} more", style="dim"), "", "")
    return table


def _number(value: float | None, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.0f}%"
