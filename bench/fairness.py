"""Tenants that share one verifier: does each get its part, and what does a quiet one feel of a flood?

    python bench/fairness.py [--quick] [--json FILE] [--plot FILE]

The target is ``testing/hash`` with stated times: 20 ms for a step and 0.2 ms for each of its positions, of which a step
takes 64. The verifier has a core of its own; Redis and all devices share the other.

*Shares*: two tenants with weights 1 and 3 keep 24 sessions each, together about twice of what a step takes. Each gets a
part of every step's time: the step's own, divided by its rows, and that of its positions. ``share_ratio`` is the
heavier one's over the lighter one's.

*Flood*: four sessions of a quiet tenant follow one another, first alone, then while another tenant of equal weight
keeps ten times as many, more than the verifier has places. ``quiet_p99_shift_ms`` is by how much that moves the quiet
tenant's p99 time to first token; it is to be less than a step (``step_p99_ms``), beside what the quiet tenant's own
sessions take of one.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

# Set before anything reads settings: the verifier process inherits them, and the devices are in this one.
STEP_MS, POSITION_MS, STEP_TOKENS, SLOTS = 20.0, 0.2, 64, 64
os.environ |= {
    "DSDQ_HASH_STEP_MS": str(STEP_MS),
    "DSDQ_HASH_POSITION_MS": str(POSITION_MS),
    "DSDQ_STEP_TOKENS": str(STEP_TOKENS),
    "DSDQ_SLOTS": str(SLOTS),
    "DSDQ_ALLOW_UNSAFE_REDIS": "1",  # the bundled Redis 6.2 keeps no tenants apart: what is measured is time
}

import dsdq
from bench.options import options, write
from bench.picture import pyplot
from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.bus.tenants import TenantStore
from dsdq.client import GenerationStats
from dsdq.errors import BusyError
from dsdq.models.names import HASH_TARGET
from dsdq.tenants import Tenant
from dsdq.testing.cores import CLOUD_CORE, DEVICE_CORE, on_core
from producers.demo.fleet import verifier

LIGHT, HEAVY, QUIET, FLOOD = "light", "heavy", "quiet", "flood"
WEIGHTS = {LIGHT: 1.0, HEAVY: 3.0, QUIET: 1.0, FLOOD: 1.0}
SESSIONS = {LIGHT: 16, HEAVY: 48, QUIET: 8, FLOOD: 80}
TOKENS = {LIGHT: 400, HEAVY: 400, QUIET: 16, FLOOD: 400}  # a quiet session is soon followed by the next
DRAFTER, WINDOW = "hash:0.8", 4
SETTLED = 0.2  # of a run has passed when counting begins


@dataclass
class Got:
    """What a tenant got: verdicts by when they were there (seconds since the run began), and times to first token."""

    verdicts: list[tuple[float, float]] = field(default_factory=list)  # at, verifier's time in ms
    steps_ms: list[float] = field(default_factory=list)
    ttft_ms: list[float] = field(default_factory=list)

    def time_ms(self, since_s: float, until_s: float) -> float:
        """Return the verifier's time that came to it in a span."""
        return sum(took_ms for at_s, took_ms in self.verdicts if since_s <= at_s < until_s)


class Seen:
    """Reads a generation's statistics as they grow."""

    def __init__(self, stats: GenerationStats, got: Got, began_s: float) -> None:
        self._stats, self._got, self._began_s = stats, got, began_s
        self._verdicts, self._judged = 0, 0

    def look(self) -> None:
        """Take in the verdicts that have come since."""
        stats = self._stats
        fresh = range(self._verdicts, len(stats.batch_rows))
        positions = stats.judged_tokens - self._judged + len(fresh)
        self._verdicts, self._judged = len(stats.batch_rows), stats.judged_tokens
        took_ms = sum(STEP_MS / stats.batch_rows[place] for place in fresh) + POSITION_MS * positions
        self._got.verdicts.append((perf_counter() - self._began_s, took_ms))
        self._got.steps_ms.extend(stats.verify_ms[place] for place in fresh)


async def keep_busy(clients: dict[str, dsdq.Client], tenants: Sequence[str], seconds: float) -> dict[str, Got]:
    """Let tenants keep their sessions for some time, each followed by the next; return what they got."""
    got, numbers, began_s = {tenant: Got() for tenant in tenants}, count(), perf_counter()

    async def sessions(tenant: str) -> None:
        while perf_counter() - began_s < seconds:
            number = next(numbers)
            generation = clients[tenant].generate(
                [1 + number % 2000, 2, 3],
                draft=DRAFTER,
                window=WINDOW,
                max_tokens=TOKENS[tenant],
                ignore_eos=True,
                seed=number,
            )
            seen = Seen(generation.stats, got[tenant], began_s)
            try:
                async for _ in generation:
                    seen.look()
                    if perf_counter() - began_s > seconds:
                        break
            except BusyError:  # a flood may be told to come back later
                continue
            finally:
                await generation.aclose()
            if perf_counter() - began_s > SETTLED * seconds:
                got[tenant].ttft_ms.append(generation.stats.ttft_ms)

    await asyncio.gather(*(sessions(tenant) for tenant in tenants for _ in range(SESSIONS[tenant])))
    return got


async def measure(seconds: float) -> dict[str, Any]:
    """Run all three crowds against one verifier."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(EmbeddedRedis(port=0))
        await add_tenants(redis.url)
        with on_core(CLOUD_CORE):
            await stack.enter_async_context(verifier(redis.url, HASH_TARGET))
        clients = {
            tenant: await stack.enter_async_context(dsdq.connect(redis.url, tenant=tenant)) for tenant in WEIGHTS
        }
        with on_core(DEVICE_CORE):
            shared = await keep_busy(clients, (LIGHT, HEAVY), seconds)
            alone = await keep_busy(clients, (QUIET,), seconds)
            flooded = await keep_busy(clients, (QUIET, FLOOD), seconds)
    return figures(shared, alone, flooded, seconds)


async def add_tenants(url: str) -> None:
    """Record who shares the verifier."""
    redis = open_redis(url)
    for name, weight in WEIGHTS.items():
        await TenantStore(redis).add(Tenant(name=name, created=datetime.now(UTC), weight=weight))
    await redis.aclose()


def figures(shared: dict[str, Got], alone: dict[str, Got], flooded: dict[str, Got], seconds: float) -> dict[str, Any]:
    """Return what came of it."""
    spans = [(at, at + 1) for at in range(int(SETTLED * seconds), int(seconds))]
    over_time = {tenant: [got.time_ms(*span) for span in spans] for tenant, got in shared.items()}
    time_ms = {tenant: sum(times) for tenant, times in over_time.items()}
    steps_ms = [step for got in flooded.values() for step in got.steps_ms]
    return {
        "share_ratio": time_ms[HEAVY] / time_ms[LIGHT],
        "weights_ratio": WEIGHTS[HEAVY] / WEIGHTS[LIGHT],
        "busy": sum(time_ms.values()) / (1000 * len(spans)),
        "quiet_p99_shift_ms": p99(flooded[QUIET].ttft_ms) - p99(alone[QUIET].ttft_ms),
        "step_p99_ms": p99(steps_ms),
        "quiet_ttft_ms": {
            "alone": {"p50": median(alone[QUIET].ttft_ms), "p99": p99(alone[QUIET].ttft_ms)},
            "flooded": {"p50": median(flooded[QUIET].ttft_ms), "p99": p99(flooded[QUIET].ttft_ms)},
        },
        "quiet_sessions": {"alone": len(alone[QUIET].ttft_ms), "flooded": len(flooded[QUIET].ttft_ms)},
        "flood_time_over_quiet": flooded[FLOOD].time_ms(spans[0][0], seconds)
        / flooded[QUIET].time_ms(spans[0][0], seconds),
        "verifier_ms_each_second": over_time,
        "ttft_ms": {"alone": alone[QUIET].ttft_ms, "flooded": flooded[QUIET].ttft_ms},
        "sessions": SESSIONS,
        "slots": SLOTS,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw both tenants' time second by second, and how long quiet sessions waited for their first token.

    Raises:
        DsdqError: matplotlib is not installed.
    """
    plt = pyplot()
    figure, (shares, waits) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for tenant, times in result["verifier_ms_each_second"].items():
        shares.plot(times, "o-", label=f"{tenant}, weight {WEIGHTS[tenant]:g}")
    shares.set(xlabel="s", ylabel="verifier's time, ms of each second", ylim=(0, None), title="two tenants, 1 : 3")
    for name, times in result["ttft_ms"].items():
        ordered = sorted(times)
        waits.plot(ordered, [place / len(ordered) for place in range(1, len(ordered) + 1)], label=name)
    waits.set(
        xlabel="time to first token, ms", ylabel="share of sessions", title="a quiet tenant, alone and in a flood"
    )
    waits.axvline(result["step_p99_ms"], linestyle="--", color="grey", label="p99 of a step")
    for axes in (shares, waits):
        axes.legend()
    figure.savefig(file, dpi=110)


def main() -> int:
    """Measure, print, write, draw."""
    arguments = options(__doc__, quick="a third of the time", plot="fairness.png").parse_args()
    result = asyncio.run(measure(15.0 if arguments.quick else 45.0))
    quiet = result["quiet_ttft_ms"]
    print(f"verifier's time, weights 1 : 3: 1 : {result['share_ratio']:.3f}, busy {result['busy']:.0%}")
    print(f"quiet tenant's time to first token, ms: {'p50':>8}{'p99':>8}{'sessions':>10}")
    for name, times in quiet.items():
        print(f"{name:>38}: {times['p50']:>8.1f}{times['p99']:>8.1f}{result['quiet_sessions'][name]:>10}")
    shift_ms, step_ms = result["quiet_p99_shift_ms"], result["step_p99_ms"]
    print(f"a flood of ten times its load moves its p99 by {shift_ms:.1f} ms; p99 of a step: {step_ms:.1f} ms")
    write(result, arguments.json)
    if arguments.plot:
        draw(result, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
