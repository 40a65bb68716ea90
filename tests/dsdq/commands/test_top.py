"""`dsdq top` beside a verifier that works, where there is none, and while Redis is away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from rich.console import Console

import dsdq
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.commands.top import render
from dsdq.models.names import HASH_TARGET
from dsdq.tasks import end
from dsdq.telemetry.figures import Snapshot
from dsdq.telemetry.overview import Overview
from tests.conftest import Serve

LATEST_S = 60
ONE = Snapshot(worker="abcdefgh23456777", model="a/model-of-a-long-name", uptime_s=1.0, slots=64, running=12)
OVERVIEW = Overview.between(
    [ONE],
    [
        replace(
            ONE,
            uptime_s=2.0,
            generated=12345,
            drafted=9,
            accepted=8,
            steps=7,
            rows=70,
            refusals={"quota": 3},
            tenants={f"t{number:02}": 1 + number for number in range(12)},
        )
    ],
    silent=["old"],
)


@asynccontextmanager
async def top(url: str, *options: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "dsdq", "top", "--redis", url, *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env={**os.environ, "COLUMNS": "140"})
    try:
        async with asyncio.timeout(LATEST_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def printed(process: Process) -> str:
    """Return all that it prints, when it has ended."""
    assert process.stdout is not None
    text = await process.stdout.read()
    await process.wait()  # Popen asks before it signals, and what it is told nobody else hears of
    return text.decode()


async def documents(process: Process, until: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Read documents until one is as wanted, and return it."""
    assert process.stdout is not None
    async for line in process.stdout:
        document: dict[str, Any] = json.loads(line)
        if until(document):
            return document
    raise AssertionError("it ended")


async def test_what_a_service_does_is_shown_while_it_works(serve: Serve, redis_url: str) -> None:
    async with (
        serve(HASH_TARGET, allow_unsafe_redis=True, hash_step_ms=10) as verifier,
        dsdq.connect(redis_url) as client,
        top(redis_url, "--json", "--interval-s", "0.2") as process,
    ):
        text = client.generate([1, 2, 3], draft="hash:0.8", window=4, max_tokens=2_000, ignore_eos=True)
        going = asyncio.create_task(_read(text))
        found = await documents(process, lambda one: one.get("tokens_per_s") and one["acceptance"])
        (worker,) = found["workers"]
        assert (worker["worker"], worker["sessions"], worker["rows_per_step"]) == (verifier.info.wid, 1, 1.0)
        assert found["tenants"][0]["tenant"] == "default"
        assert 0.3 < found["acceptance"] < 1
        process.send_signal(signal.SIGINT)
        await process.wait()
        assert process.returncode == 0
        await end(going)
        await text.aclose()


async def _read(text: dsdq.Generation) -> None:
    async for _ in text:
        pass


async def test_once_shows_rates_and_ends(serve: Serve, redis_url: str) -> None:
    async with serve(HASH_TARGET, allow_unsafe_redis=True) as verifier, top(redis_url, "--once") as process:
        shown = await printed(process)
    assert process.returncode == 0
    assert verifier.info.wid in shown
    assert "0 tokens/s" in shown


async def test_without_a_verifier_that_is_said(redis_url: str) -> None:
    async with top(redis_url, "--once") as process:
        assert f"no verifier serves at {redis_url}" in await printed(process)


async def test_it_goes_on_when_redis_is_back() -> None:
    server = EmbeddedRedis(port=0)
    await server.start()
    async with top(server.url, "--json", "--interval-s", "0.2") as process:
        assert (await documents(process, lambda _: True))["verifiers"] == 0
        await server.stop()
        assert "redis" in (await documents(process, lambda one: "error" in one))["error"]
        again = EmbeddedRedis(port=urlsplit(server.url).port or 0)
        await again.start()
        try:
            await documents(process, lambda one: "error" not in one)
        finally:
            await again.stop()


@pytest.mark.parametrize("columns", [80, 140])
def test_a_screen_of_few_columns_shows_every_figure_whole(columns: int) -> None:
    console = Console(width=columns, record=True, file=StringIO())
    console.print(render(OVERVIEW, "redis://127.0.0.1:6379/0", columns))
    text = console.export_text()
    for fact in ("12/64", "12,345", "89%", "10.0", "quota 3", "without figures: old", "t11", "and 2 more"):
        assert fact in text
    assert ("abcdefgh23456777" in text) is (columns == 140)
    (row,) = [line for line in text.splitlines() if "12/64" in line]
    assert row.split()[-8:] == ["12/64", "0", "12,345", "89%", "10.0", "7", "0%", "0s"]
