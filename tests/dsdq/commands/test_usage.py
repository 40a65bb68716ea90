"""``dsdq usage``: the same figures as a table, as CSV and as JSON, and where they come from."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from dsdq.commands.usage import usage
from dsdq.errors import ConfigError

BOOK = 'currency = "EUR"\n[per_million]\ncommitted = 2\nverified = 0.5\n'
HOUR = int(datetime(2026, 1, 31, 23, tzinfo=UTC).timestamp()) // 3600


@pytest.fixture
async def used(redis: Redis) -> None:
    for place, hour in enumerate((HOUR, HOUR + 1)):
        key = f"{{p.phone-{place}}}:acme:usage:2026-01"
        await redis.hset(key, mapping={f"{hour}:committed": 1_000_000, f"{hour}:verified": 3_000_000})


async def run(redis_url: str, *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(usage)
    span = ("--tenant", "acme", "--from", "2026-01-01", "--to", "2026-03-01", "--redis", redis_url)
    return await asyncio.to_thread(CliRunner().invoke, app, [*span, *arguments], env={"COLUMNS": "250"})


@pytest.mark.usefixtures("used")
async def test_the_figures_are_the_same_in_every_form(redis_url: str, tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(BOOK)
    document = json.loads((await run(redis_url, "--json", "--prices", str(book))).stdout)
    assert (document["total"]["committed"], document["total"]["verified"]) == (2_000_000, 6_000_000)
    assert document["cost"] == {"currency": "EUR", "total": "7.0"}
    rows = list(csv.DictReader(io.StringIO((await run(redis_url, "--csv", "--prices", str(book))).stdout)))
    assert [(row["day"], row["committed"], row["cost_EUR"]) for row in rows] == [
        ("2026-01-31", "1000000", "3.5"),
        ("2026-02-01", "1000000", "3.5"),
    ]
    shown = (await run(redis_url, "--prices", str(book), "--explain", "--by", "month")).stdout
    for part in ("2026-02", "2,000,000", "7.000000", "tokens generated", "EUR for a million"):
        assert part in shown


async def test_nothing_used_is_nothing_to_pay(redis_url: str) -> None:
    document = json.loads((await run(redis_url, "--json")).stdout)
    assert document["rows"] == {}
    assert set(document["total"].values()) == {0}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--from", "yesterday"), "expected a date such as"),
        (("--tenant", "*"), "a-z, 0-9"),
        (("--explain",), "no price book"),
        (("--prices", "/nowhere/prices.toml"), "expected a file to read"),
    ],
)
async def test_what_is_wrong_is_said(redis_url: str, arguments: tuple[str, ...], expected: str) -> None:
    failed = await run(redis_url, *arguments)
    assert isinstance(failed.exception, ConfigError)
    assert expected in str(failed.exception)
