"""Does anything grow while devices come, generate and go, as many as the verifiers can serve?

    python -m bench.soak [--minutes 10] [--json FILE]

Two verifier processes of the target ``testing/hash``, with a fixed time for each step, and more devices than slots.
Each device opens one session after another: most finish, some are cancelled on the way, some are opened by a device
that is never heard of again; now and then a device goes, and one with a new name comes. Every 5 s: the resident memory
of each verifier and what Redis uses. Of each, the least-squares slope per hour with its standard error, without the
first three minutes, in which prefix caches fill. At the end all is closed, and when the times to live have passed,
Redis must hold the keys that it began with.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import linear_regression, mean
from time import perf_counter
from typing import Any

# Set before anything reads settings: the verifier processes inherit them, and the devices are in this one.
STEP_MS, SLOTS = 40, 16
os.environ |= {
    "DSDQ_HASH_STEP_MS": str(STEP_MS),
    "DSDQ_SLOTS": str(SLOTS),
    "DSDQ_IDLE_TTL_MS": "5000",
    "DSDQ_CLOSED_TTL_MS": "2000",
}

import psutil
from redis.asyncio import Redis

import dsdq
from bench.options import options, write
from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.bus.publishing import publish
from dsdq.bus.registry import Registry
from dsdq.contract import Contract
from dsdq.errors import BusyError, DsdqError
from dsdq.processes import Child, spawn
from dsdq.tasks import end
from dsdq.testing.servers import until
from dsdq.wire import Open, pack, pack_contract

TARGET, DRAFTER = "testing/hash", "hash:0.8"
VERIFIERS, DEVICES, NEW_TOKENS, WINDOW = 2, 40, 64, 8
SESSIONS_PER_DEVICE = 25
CANCELLED, ABANDONED = 0.10, 0.02
SAMPLE_S, SETTLED_S = 5.0, 180.0
SEED = 11

Samples = dict[str, list[float]]
"""Seconds since the start, and bytes of each that is watched."""


async def start_verifier(url: str) -> Child:
    """Start one verifier process and wait until it serves."""
    child = await spawn([sys.executable, "-m", "dsdq", "verifier", "--redis", url, "--target", TARGET], stdout=True)
    if not (await child.read_line()).startswith("ready"):
        await child.stop()
        msg = "the verifier ended before it was ready; what it said is above"
        raise DsdqError(msg)
    return child


async def device(url: str, rng: random.Random, ends_s: float, ended: Counter[str], news: asyncio.Event) -> None:
    """Ask for one text after another, under a new name now and then, until the time is over; each end is ``news``."""
    while perf_counter() < ends_s:
        async with dsdq.connect(url) as client:
            for _ in range(SESSIONS_PER_DEVICE):
                if perf_counter() >= ends_s:
                    return
                try:
                    ended[await ask(client, rng)] += 1
                except DsdqError as error:
                    ended[getattr(error, "code", None) or type(error).__name__] += 1
                news.set()


async def ask(client: dsdq.Client, rng: random.Random) -> str:
    """Generate one text, or cancel it on the way, and say which."""
    prompt = [rng.randrange(2000) for _ in range(16)]
    generation = client.generate(prompt, draft=DRAFTER, window=WINDOW, max_tokens=NEW_TOKENS, ignore_eos=True)
    enough = rng.randrange(NEW_TOKENS) if rng.random() < CANCELLED else None
    count = 0
    async for _ in generation:
        count += 1
        if count == enough:
            await generation.aclose()
            return "cancelled"
    return "finished"


async def abandon_forever(redis: Redis, rng: random.Random, ended: Counter[str], news: asyncio.Event) -> None:
    """Open sessions for devices that are never heard of again: so many for each one that others ended."""
    registry = Registry(redis)
    while True:
        await news.wait()
        news.clear()
        while ended["abandoned"] < ABANDONED * sum(ended.values()):
            worker = rng.choice(await registry.list_workers(TARGET))
            session = secrets.token_hex(13)
            contract = Contract("default", f"gone-{session}", session, TARGET, worker.fingerprint)
            opening = pack(Open(session, pack_contract(contract), tuple(range(1, 17))))
            try:
                await publish(redis, worker.wid, "default", opening, producer=contract.producer, opens=True)
            except BusyError:
                break
            ended["abandoned"] += 1


async def sample_forever(redis: Redis, processes: Sequence[psutil.Process], samples: Samples) -> None:
    """Look at memory every few seconds."""
    began_s = perf_counter()
    while True:
        await asyncio.sleep(SAMPLE_S)
        samples.setdefault("at_s", []).append(perf_counter() - began_s)
        samples.setdefault("redis", []).append((await redis.info("memory"))["used_memory"])
        for number, process in enumerate(processes):
            samples.setdefault(f"verifier {number}", []).append(process.memory_info().rss)


def slope(at_s: Sequence[float], sizes: Sequence[float]) -> dict[str, float]:
    """Return the least-squares slope with its standard error in MiB per hour, and the mean in MiB."""
    hours, mib = [at / 3600 for at in at_s], [size / 2**20 for size in sizes]
    line = linear_regression(hours, mib)
    middle = mean(hours)
    rest = sum((y - line.intercept - line.slope * x) ** 2 for x, y in zip(hours, mib, strict=True))
    error = (rest / (len(hours) - 2) / sum((x - middle) ** 2 for x in hours)) ** 0.5
    return {"slope_mib_per_h": line.slope, "error_mib_per_h": error, "mean_mib": mean(mib), "last_mib": mib[-1]}


async def key_names(redis: Redis) -> set[str]:
    """Return all keys; who looks at one that has expired removes it."""
    return {key.decode() async for key in redis.scan_iter(count=1000)}


async def measure(minutes: float) -> dict[str, Any]:
    """Run everything, and wait until what should go has gone."""
    samples, ended = Samples(), Counter[str]()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedRedis(port=0))
        children = [await start_verifier(server.url) for _ in range(VERIFIERS)]
        for child in children:
            stack.push_async_callback(child.stop)
        redis = open_redis(server.url)
        stack.push_async_callback(redis.aclose)
        before = await key_names(redis)
        processes = [psutil.Process(child.pid) for child in children]
        rng, ends_s = random.Random(SEED), perf_counter() + 60 * minutes
        sampling = asyncio.create_task(sample_forever(redis, processes, samples))
        news = asyncio.Event()
        leaving = asyncio.create_task(abandon_forever(redis, rng, ended, news))
        devices = [device(server.url, random.Random(SEED + number), ends_s, ended, news) for number in range(DEVICES)]
        await asyncio.gather(*devices)
        await end(leaving, sampling)
        after = await settle(redis, before)
    settled = next((place for place, at in enumerate(samples["at_s"]) if at >= SETTLED_S), 0)
    return {
        "minutes": minutes,
        "sessions": dict(ended),
        "memory": {
            name: slope(samples["at_s"][settled:], sizes[settled:]) for name, sizes in samples.items() if name != "at_s"
        },
        "keys_before": len(before),
        "keys_after": len(after),
        "keys_left": sorted(after - before),
        "samples": samples,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


async def settle(redis: Redis, before: set[str]) -> set[str]:
    """Wait until only the keys of the beginning are there, or for a minute, and return those that are."""
    after = set[str]()

    async def as_before() -> bool:
        after.clear()
        after.update(await key_names(redis))
        return after == before

    try:
        await until(as_before, "the keys of the beginning")
    except DsdqError as error:
        print(error)
    return after


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    print(f"{result['minutes']:g} minutes; {', '.join(f'{how} {n}' for how, n in sorted(result['sessions'].items()))}")
    print(f"{'':<12}{'mean MiB':>10}{'last MiB':>10}{'slope MiB/h':>13}{'error':>8}")
    for name, row in result["memory"].items():
        print(
            f"{name:<12}{row['mean_mib']:>10.2f}{row['last_mib']:>10.2f}{row['slope_mib_per_h']:>13.2f}"
            f"{row['error_mib_per_h']:>8.2f}"
        )
    print(f"keys: {result['keys_before']} before, {result['keys_after']} after; left: {result['keys_left'][:8]}")


def main() -> int:
    """Measure, print, write; fail if keys are left."""
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="at least 4: the first 3 are for settling")
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments.minutes))
    show(result)
    write(result, arguments.json)
    return 1 if result["keys_left"] else 0


if __name__ == "__main__":
    sys.exit(main())
