"""More work than there is room for: what a verifier does with 0.5 to 10 times what it can serve.

    python bench/overload.py [--quick] [--json FILE] [--plot FILE]

The target is ``testing/hash`` with a fixed time for each step, so that the verifier's capacity is set by its steps and
not by this machine. Capacity is measured first, with as many sessions at once as it has slots, each followed by the
next. Then sessions arrive by themselves (Poisson, seeded), whether or not others have finished, through
``dsdq.connect`` and the drafter ``hash:0.8``, and each has to end: with its text, or with an error, of which the kinds
are counted.

For each offered load: goodput (committed tokens per second of sessions that finished), how sessions ended, the p99 of
the time that a finished session took, and memory: of Redis (``used_memory``: the most, and once ended sessions' logs
have outlived their time) and of the verifier process (resident).
Sessions are counted from when the load has settled until arrivals end.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

# Set before anything reads settings: the verifier process inherits them, and the devices are in this one.
STEP_MS, SLOTS, SESSION_ROUNDS, INBOX_BOUND, PATIENCE_MS, PLACE_WAIT_MS = 100, 8, 2, 64, 4_000, 2_000
os.environ |= {
    "DSDQ_HASH_STEP_MS": str(STEP_MS),
    "DSDQ_SLOTS": str(SLOTS),
    "DSDQ_SESSION_ROUNDS": str(SESSION_ROUNDS),
    "DSDQ_INBOX_BOUND": str(INBOX_BOUND),
    "DSDQ_PLACE_WAIT_MS": str(PLACE_WAIT_MS),
    "DSDQ_GIVE_UP_MS": str(PATIENCE_MS),
    "DSDQ_OPEN_TIMEOUT_MS": str(PATIENCE_MS),
    "DSDQ_CLOSED_TTL_MS": "1000",  # ended sessions' logs must not look like a leak
}

import psutil

import dsdq
from bench.options import options, write
from bench.picture import pyplot
from dsdq.bus.connection import open_redis
from dsdq.bus.dead import DeadLetters
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.errors import BusyError, DsdqError
from dsdq.processes import spawn
from dsdq.tasks import end
from dsdq.testing.servers import until

TARGET, DRAFTER = "testing/hash", "hash:0.8"
NEW_TOKENS, WINDOW = 32, 8
CLIENTS = 16
LOADS = (0.5, 0.8, 1.0, 1.5, 2.0, 4.0, 10.0)
QUICK = (0.5, 1.0, 10.0)
SEED = 7
SAMPLE_S = 0.25


@dataclass
class Watch:
    """Memory in bytes as it was seen while a load ran."""

    redis_bytes: list[int] = field(default_factory=list)
    verifier_bytes: list[int] = field(default_factory=list)


@dataclass
class Ended:
    """One session: when it ended (seconds after its load began), how long it took, how it ended, what it committed."""

    at_s: float
    took_s: float
    how: str
    tokens: int


@asynccontextmanager
async def verifier(url: str) -> AsyncIterator[psutil.Process]:
    """Run the verifier and give its process."""
    child = await spawn([sys.executable, "-m", "dsdq", "verifier", "--redis", url, "--target", TARGET], stdout=True)
    try:
        if not (await child.read_line()).startswith("ready"):
            msg = "the verifier ended before it was ready; what it said is above"
            raise DsdqError(msg)
        yield psutil.Process(child.pid)
    finally:
        await child.stop()


async def watch(url: str, process: psutil.Process, seen: Watch) -> None:
    """Look at memory until cancelled."""
    redis = open_redis(url)
    try:
        while True:
            seen.redis_bytes.append((await redis.info("memory"))["used_memory"])
            seen.verifier_bytes.append(process.memory_info().rss)
            await asyncio.sleep(SAMPLE_S)
    finally:
        await redis.aclose()


async def session(client: dsdq.Client, number: int, began_s: float) -> Ended:
    """Generate one text and say how it ended; an error that dsdq does not raise on purpose ends the benchmark."""
    started, how = perf_counter(), "finished"
    generation = client.generate(
        [1 + number % 2000, 2, 3], draft=DRAFTER, window=WINDOW, max_tokens=NEW_TOKENS, ignore_eos=True, seed=number
    )
    try:
        async for _ in generation:
            pass
    except DsdqError as error:
        how = getattr(error, "code", None) or ("busy" if isinstance(error, BusyError) else type(error).__name__)
    ended = perf_counter()
    return Ended(ended - began_s, ended - started, str(how), generation.stats.committed_tokens)


async def capacity(clients: Sequence[dsdq.Client], seconds: float) -> float:
    """Return the tokens per second of as many sessions as there are slots, each followed by the next at once."""
    began_s, done = perf_counter(), list[Ended]()

    async def slot(number: int) -> None:
        while perf_counter() - began_s < seconds:
            done.append(await session(clients[number % len(clients)], number + SLOTS * len(done), began_s))

    await asyncio.gather(*map(slot, range(SLOTS)))
    settled = [one for one in done if seconds / 4 <= one.at_s < seconds]
    return sum(one.tokens for one in settled) / (0.75 * seconds)


async def offer(clients: Sequence[dsdq.Client], sessions_per_s: float, seconds: float) -> list[Ended]:
    """Let sessions arrive for ``seconds``, and return how all of them ended."""
    rng, began_s, due_s = random.Random(SEED), perf_counter(), 0.0
    async with asyncio.TaskGroup() as group:
        arrived = list[asyncio.Task[Ended]]()
        while (due_s := due_s + rng.expovariate(sessions_per_s)) < seconds:
            await asyncio.sleep(began_s + due_s - perf_counter())
            number = len(arrived)
            arrived.append(group.create_task(session(clients[number % len(clients)], number, began_s)))
    return [one.result() for one in arrived]


async def key_names(url: str) -> set[bytes]:
    """Return all keys; who looks at one that has expired removes it."""
    redis = open_redis(url)
    try:
        return {key async for key in redis.scan_iter(count=1000)}
    finally:
        await redis.aclose()


async def settled_bytes(url: str, names: set[bytes]) -> int:
    """Wait until ended sessions have outlived their time to live, and return what Redis uses then.

    ``names`` are the keys of a service without sessions; inboxes' counters and dead letters stay too.
    """

    async def sessions_gone() -> bool:
        return not any(key.startswith(b"{p.") for key in await key_names(url) - names)

    await until(sessions_gone, "no session's keys")
    redis = open_redis(url)
    try:
        return int((await redis.info("memory"))["used_memory"])
    finally:
        await redis.aclose()


async def dead_letters(url: str) -> dict[str, int]:
    """Return how many messages no verifier could answer, by kind: overload should leave none."""
    redis = open_redis(url)
    try:
        return await DeadLetters(redis).counts()
    finally:
        await redis.aclose()


def figures(load: float, ended: Sequence[Ended], seen: Watch, seconds: float) -> dict[str, Any]:
    """Return one load's row."""
    within = [one for one in ended if seconds / 4 <= one.at_s < seconds]
    finished = [one for one in within if one.how == "finished"]
    took = sorted(one.took_s for one in ended if one.how == "finished")
    return {
        "load": load,
        "sessions": len(ended),
        "ended": dict(Counter(one.how for one in ended)),
        "goodput_tokens_per_s": sum(one.tokens for one in finished) / (0.75 * seconds),
        "committed_in_vain": sum(one.tokens for one in ended if one.how != "finished"),
        "p50_s": took[len(took) // 2],
        "p99_s": quantiles(took, n=100, method="inclusive")[98] if len(took) > 1 else took[0],
        "longest_until_any_end_s": max(one.took_s for one in ended),
        "redis_max_mib": max(seen.redis_bytes) / 2**20,
        "verifier_max_mib": max(seen.verifier_bytes) / 2**20,
    }


async def measure(loads: Sequence[float], seconds: float) -> dict[str, Any]:
    """Run all loads against one verifier, from low to high."""
    rows = []
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedRedis(port=0))
        process = await stack.enter_async_context(verifier(server.url))
        clients = [await stack.enter_async_context(dsdq.connect(server.url)) for _ in range(CLIENTS)]
        names = await key_names(server.url)
        full = await capacity(clients, seconds)
        print(f"Redis with nothing to do: {await settled_bytes(server.url, names) / 2**20:.2f} MiB")
        for load in loads:
            seen = Watch()
            watching = asyncio.create_task(watch(server.url, process, seen))
            ended = await offer(clients, load * full / NEW_TOKENS, seconds)
            await end(watching)
            after = await settled_bytes(server.url, names)
            rows.append(figures(load, ended, seen, seconds) | {"redis_after_mib": after / 2**20})
            print_row(rows[-1], full)
        letters = await dead_letters(server.url)
    print(f"dead letters: {letters or 'none'}")
    return {
        "dead_letters": letters,
        "capacity_tokens_per_s": full,
        "goodput_over_capacity_at_most_load": rows[-1]["goodput_tokens_per_s"] / full,
        "loads": rows,
        "step_ms": STEP_MS,
        "slots": SLOTS,
        "inbox_bound": INBOX_BOUND,
        "patience_ms": PATIENCE_MS,
        "place_wait_ms": PLACE_WAIT_MS,
        "new_tokens": NEW_TOKENS,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


HEADER = (
    f"{'load':>6}{'sessions':>9}{'goodput':>9}{'of cap.':>9}{'p50 s':>8}{'p99 s':>8}{'last s':>8}"
    f"{'Redis MiB':>10}{'after':>7}{'verifier':>9}  how they ended"
)


def print_row(row: dict[str, Any], full: float) -> None:
    """Print one load, below the header of the first."""
    if row["load"] == min(LOADS):
        print(f"capacity {full:.0f} tokens/s: {SLOTS} slots, steps of {STEP_MS} ms; sessions of {NEW_TOKENS} tokens")
        print(HEADER)
    ended = ", ".join(f"{how} {count}" for how, count in sorted(row["ended"].items()))
    good = row["goodput_tokens_per_s"]
    print(
        f"{row['load']:>5.1f}x{row['sessions']:>9}{good:>9.0f}{good / full:>8.2f}x{row['p50_s']:>8.2f}"
        f"{row['p99_s']:>8.2f}{row['longest_until_any_end_s']:>8.2f}{row['redis_max_mib']:>10.2f}"
        f"{row['redis_after_mib']:>7.2f}"
        f"{row['verifier_max_mib']:>9.1f}  {ended}",
        flush=True,
    )


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw goodput, endings, latency and memory over the offered load.

    Raises:
        DsdqError: matplotlib is not installed.
    """
    plt = pyplot()
    rows = result["loads"]
    loads = [row["load"] for row in rows]
    figure, ((good, how), (late, memory)) = plt.subplots(2, 2, figsize=(11, 7), sharex=True, layout="constrained")
    good.plot(loads, [row["goodput_tokens_per_s"] for row in rows], "o-", label="goodput")
    good.axhline(result["capacity_tokens_per_s"], linestyle="--", color="grey", label="capacity")
    good.set(ylabel="tokens/s of finished sessions", ylim=(0, None))
    kinds = sorted({kind for row in rows for kind in row["ended"]}, key=lambda kind: (kind != "finished", kind))
    shares = [[row["ended"].get(kind, 0) / row["sessions"] for row in rows] for kind in kinds]
    how.stackplot(loads, shares, labels=kinds)
    how.set(ylabel="share of sessions", ylim=(0, 1))
    for name in ("p50_s", "p99_s"):
        late.plot(loads, [row[name] for row in rows], "o-", label=name.removesuffix("_s"))
    late.set(ylabel="s until a session has finished", ylim=(0, None), xlabel="offered load / capacity")
    memory.plot(loads, [row["redis_max_mib"] for row in rows], "o-", label="Redis, used")
    memory.plot(loads, [row["verifier_max_mib"] for row in rows], "o-", label="verifier, resident")
    memory.set(ylabel="MiB, largest seen", ylim=(0, None), xlabel="offered load / capacity")
    for axes in (good, how, late, memory):
        axes.set_xscale("log")
        axes.set_xticks(loads, [f"{load:g}" for load in loads], minor=False)
        axes.minorticks_off()
        axes.legend(loc="best")
    figure.savefig(file, dpi=110)


def main() -> int:
    """Measure, print, write, draw."""
    arguments = options(__doc__, quick="three loads, less time", plot="overload.png").parse_args()
    loads, seconds = (QUICK, 8.0) if arguments.quick else (LOADS, 18.0)
    result = asyncio.run(measure(loads, seconds))
    write(result, arguments.json)
    if arguments.plot:
        draw(result, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
