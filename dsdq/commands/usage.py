"""``dsdq usage``: what a tenant has used, what it costs, and how that follows from what was counted."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsdq.bus.connection import open_redis
from dsdq.bus.usage import usage_of
from dsdq.errors import ConfigError
from dsdq.keys import NAME
from dsdq.settings import settings
from dsdq.tenants.usage import METRICS, PRICED, PriceBook, Usage, total

DAYS = 30
WIDTH = 130


class Span(StrEnum):
    """What a row stands for."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


_ROWS = {Span.HOUR: "%Y-%m-%dT%H:00Z", Span.DAY: "%Y-%m-%d", Span.MONTH: "%Y-%m"}


def usage(  # noqa: PLR0913, PLR0917 - options of a command line
    tenant: Annotated[str, typer.Option(help="Whose usage.")],
    since: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First day or hour, UTC.", show_default="30 days ago")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="First day or hour not to count.", show_default="now")
    ] = None,
    by: Annotated[Span, typer.Option(help="What a row stands for.")] = Span.DAY,
    prices: Annotated[Path | None, typer.Option(metavar="FILE", help="A price book (TOML) to reckon costs by.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show how the cost comes about.")] = False,  # noqa: FBT002
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,  # noqa: FBT002 - a flag, as below
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002
    redis: Annotated[str | None, typer.Option(help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")] = None,
) -> None:
    """Show what a tenant used, by day, hour or month, and what it costs."""
    if not NAME.fullmatch(tenant):
        raise ConfigError(f"--tenant: expected a name of 1 to 64 of a-z, 0-9 and -, got {tenant!r}")
    if explain and prices is None:
        raise ConfigError("--explain: expected --prices too, got no price book")
    now = datetime.now(UTC)
    begins = _moment("--from", since, (now - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0))
    ends = _moment("--to", until, now)
    book = None if prices is None else _book(prices)
    rows = _rows(asyncio.run(_usage(redis or settings().redis_url, tenant, begins, ends)), by)
    if as_json:
        typer.echo(json.dumps(_document(tenant, begins, ends, rows, book), indent=2))
    elif as_csv:
        typer.echo(_csv(rows, by, book), nl=False)
    else:
        _show(tenant, rows, by, book)
    if explain and book is not None and not (as_json or as_csv):
        _explain(total(rows.values()), book)


async def _usage(url: str, tenant: str, since: datetime, until: datetime) -> dict[datetime, Usage]:
    client = open_redis(url)
    try:
        return await usage_of(client, tenant, since, until)
    finally:
        await client.aclose()


def _moment(option: str, text: str | None, usual: datetime) -> datetime:
    if text is None:
        return usual
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: expected a date such as 2026-01-31 or 2026-01-31T13:00, got {text!r}") from None
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)


def _book(file: Path) -> PriceBook:
    try:
        return PriceBook.read(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--prices: expected a file to read, got {file}: {error}") from None


def _rows(hours: Mapping[datetime, Usage], by: Span) -> dict[str, Usage]:
    rows: dict[str, Usage] = {}
    for hour, used in hours.items():
        name = hour.strftime(_ROWS[by])
        rows[name] = rows.get(name, Usage()) + used
    return rows


# Showing


def _document(
    tenant: str, since: datetime, until: datetime, rows: Mapping[str, Usage], book: PriceBook | None
) -> dict[str, object]:
    used = total(rows.values())
    document: dict[str, object] = {
        "tenant": tenant,
        "from": since.isoformat(),
        "to": until.isoformat(),
        "rows": {name: asdict(one) for name, one in rows.items()},
        "total": asdict(used),
    }
    if book is not None:
        document["cost"] = {"currency": book.currency, "total": str(book.cost(used))}
        document["lines"] = [
            {
                "metric": line.metric,
                "amount": str(line.amount),
                "per_million": str(line.per_million),
                "cost": str(line.cost),
            }
            for line in book.lines(used)
        ]
    return document


def _csv(rows: Mapping[str, Usage], by: Span, book: PriceBook | None) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([by, *METRICS, *(() if book is None else (f"cost_{book.currency}",))])
    for name, used in rows.items():
        writer.writerow([name, *asdict(used).values(), *(() if book is None else (book.cost(used),))])
    return text.getvalue()


def _show(tenant: str, rows: Mapping[str, Usage], by: Span, book: PriceBook | None) -> None:
    names = [name.replace("_", " ") for name in METRICS]
    table = Table(by, *names, *(() if book is None else (f"cost, {book.currency}",)), title=f"usage of {tenant}, UTC")
    for name, used in [*rows.items(), ("total", total(rows.values()))]:
        counts = [f"{count:,}" for count in asdict(used).values()]
        table.add_row(name, *counts, *(() if book is None else (f"{book.cost(used):.6f}",)))
    Console(width=max(Console().width, WIDTH)).print(table)  # half a figure would be worse than a line that wraps


def _explain(used: Usage, book: PriceBook) -> None:
    table = Table(
        "what", "amount", f"{book.currency} for a million", f"cost, {book.currency}", title="how it comes about"
    )
    for line in book.lines(used):
        table.add_row(
            f"{line.metric}: {PRICED[line.metric]}", f"{line.amount:,}", f"{line.per_million}", f"{line.cost:.6f}"
        )
    table.add_row("total", "", "", f"{book.cost(used):.6f}")
    Console().print(table)
    typer.echo(
        "Counted by the script that writes each verdict, once for each that is in a log: what is sent or written "
        "twice, or fed again after a crash, counts nothing. A client can check all but kv_token_seconds against its "
        "receipts."
    )
