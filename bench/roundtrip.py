"""One round, draft to verdict, with the model stubbed: what dsdq's guarantees cost over bare Redis.

    python bench/roundtrip.py [--quick] [--json FILE]

Compares, in turns, at 1, 16 and 256 sessions that each ask again as soon as they are answered:

    dsdq           the public client and ``dsdq verifier`` with the target ``testing/hash``, drafter ``hash:0.8``
    raw            two streams by hand in redis-py's asyncio client: XADD, XREADGROUP, then XADD to one feed, XACK and
                   XDEL in one pipeline, and one XREAD that follows the feed for all sessions
    raw_blocking   the same without event loop or tasks: the floor of what redis-py can do
    list           LPUSH and BRPOP, a list each way
    arq            a job for each round, its result awaited; both sides poll every 10 ms (arq's default is 500 ms)

The serving side is one process, all devices are another, Redis is the embedded server; messages have the same bytes.
p50 and p99 are from sending a draft to having its verdict; rounds per second count all that the devices do in
between too. Figures are medians over repeats; ratios are what counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from statistics import median
from typing import Any

import redis

from bench.exchanges import DRAFT, VERDICT
from bench.options import options, write
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.errors import DsdqError
from dsdq.processes import spawn

TARGET = "testing/hash"
WAYS = ("dsdq", "raw", "raw_blocking", "list", "arq")
SESSIONS = (1, 16, 256)
SECONDS = 3.0
REPEATS = 3
FIGURES = ("p50_ms", "p99_ms", "rounds_per_s")

Figures = dict[str, float]
Runs = dict[str, dict[int, list[Figures]]]


@asynccontextmanager
async def serving(way: str, url: str, sessions: int) -> AsyncIterator[None]:
    """Run a way's serving side in a process of its own; enter once it serves."""
    if way == "dsdq":
        os.environ["DSDQ_INBOX_BOUND"] = "8192"  # the verifier inherits it: all sessions are to be admitted
        role = ["dsdq", "verifier", "--redis", url, "--target", TARGET, "--slots", str(sessions)]
    else:
        role = ["bench.exchanges", "serve", way, url]
    process = await spawn([sys.executable, "-m", *role], stdout=True)
    try:
        line = await process.read_line()
        if not line.startswith("ready"):
            msg = f"the serving side of {way} ended before it was ready; what it said is above"
            raise DsdqError(msg)
        yield
    finally:
        await process.stop()


async def asked(way: str, url: str, sessions: int, seconds: float) -> Figures:
    """Run a way's devices in a process of their own and return their figures."""
    command = [sys.executable, "-m", "bench.exchanges", "ask", way, url, str(sessions), str(seconds)]
    process = await spawn(command, stdout=True)
    try:
        line = await process.read_line()
    finally:
        await process.stop()
    if not line:
        msg = f"the devices of {way} ended without figures; what they said is above"
        raise DsdqError(msg)
    figures: Figures = json.loads(line)
    return figures


async def measure(counts: Sequence[int], seconds: float, repeats: int) -> Runs:
    """Run every way with every number of sessions, taking turns, each on an empty server."""
    ways = [way for way in WAYS if way != "arq" or find_spec("arq")]
    runs: Runs = {way: {sessions: [] for sessions in counts} for way in ways}
    for _ in range(repeats):
        for sessions in counts:
            for way in ways:
                async with EmbeddedRedis(port=0) as server, serving(way, server.url, sessions):
                    runs[way][sessions].append(await asked(way, server.url, sessions, seconds))
    return runs


def summary(runs: Runs) -> dict[str, Any]:
    """Return the JSON result: medians, and dsdq's over raw's."""
    found = {
        way: {
            sessions: {name: median(one[name] for one in repeats) for name in FIGURES}
            for sessions, repeats in by_sessions.items()
        }
        for way, by_sessions in runs.items()
    }
    ours, raw = found["dsdq"], found["raw"]
    p50 = {sessions: ours[sessions]["p50_ms"] / raw[sessions]["p50_ms"] for sessions in raw}
    throughput = {sessions: ours[sessions]["rounds_per_s"] / raw[sessions]["rounds_per_s"] for sessions in raw}
    return {
        "ways": found,
        "p50_over_raw": p50[min(p50)],
        "throughput_over_raw": throughput[max(throughput)],
        "p50_over_raw_by_sessions": p50,
        "throughput_over_raw_by_sessions": throughput,
        "draft_bytes": len(DRAFT),
        "verdict_bytes": len(VERDICT),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, redis-py {redis.__version__}",
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    sizes = f"a draft of {result['draft_bytes']} bytes, a verdict of {result['verdict_bytes']}"
    print(f"machine: {result['machine']}; {sizes}")
    print(f"{'sessions':>8}  {'way':<14}{'p50 ms':>9}{'p99 ms':>9}{'rounds/s':>10}{'p50 dsdq is':>14}{'rounds/s':>10}")
    for sessions in result["p50_over_raw_by_sessions"]:
        ours = result["ways"]["dsdq"][sessions]
        for way, by_sessions in result["ways"].items():
            one = by_sessions[sessions]
            figures = f"{one['p50_ms']:>9.2f}{one['p99_ms']:>9.2f}{one['rounds_per_s']:>10.0f}"
            shares = f"{ours['p50_ms'] / one['p50_ms']:>13.2f}x{ours['rounds_per_s'] / one['rounds_per_s']:>9.2f}x"
            print(f"{sessions:>8}  {way:<14}{figures}{shares}")
    if "arq" not in result["ways"]:
        print("arq is not installed: `pip install dsdq[jobs]` adds its rows")


def main() -> int:
    """Measure, print, write."""
    arguments = options(__doc__, quick="fewer sessions, less time, one repeat").parse_args()
    counts, seconds, repeats = (SESSIONS[:2], 1.0, 1) if arguments.quick else (SESSIONS, SECONDS, REPEATS)
    result = summary(asyncio.run(measure(counts, seconds, repeats)))
    show(result)
    write(result, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
