"""A thousand devices, each with its own connections and an open session: all are cut at once, and all go on.

    python -m bench.connections [--devices 1000] [--json FILE]

Verifier and devices are processes of their own; the target is ``testing/hash``. Every device connects as
``dsdq.connect`` does, opens a session and generates a little. When all have, every connection to Redis is killed, those
of the verifier too, and every device asks for the rest of its text at that moment. Shown: how all ended and with which
refusals, whether the texts are right, how long it took until the first new verdict and until the end of the text, the
largest output buffers that Redis held for anybody, and memory before, with all devices, and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from time import perf_counter
from typing import Any

# Set before anything reads settings: all processes inherit them. Twice the slots that the devices need, and room for
# the rounds of each.
os.environ |= {
    "DSDQ_SLOTS": "2048",
    "DSDQ_SESSION_ROUNDS": "2",
    "DSDQ_INBOX_BOUND": "8192",
    "DSDQ_KV_TOKENS": str(1 << 19),
}

import psutil
from redis.asyncio import Redis

import dsdq
from bench.options import options, write
from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.descriptors import raise_limit
from dsdq.errors import DsdqError
from dsdq.processes import Child, spawn
from dsdq.tasks import end
from dsdq.testing.hashed import decode

TARGET, DRAFTER = "testing/hash", "hash:0.8"
PROCESSES, AT_ONCE = 2, 25
NEW_TOKENS, FIRST_TOKENS, WINDOW = 48, 8, 8
SAMPLE_S = 0.1


# Devices: a process of many


async def device(url: str, number: int, gate: asyncio.Semaphore, cut: asyncio.Event, opened: asyncio.Event) -> Any:  # noqa: ANN401 - JSON
    """Generate a little, wait until the connections are cut, generate the rest; return how that went."""
    prompt = (1 + number % 2000, 2 + number // 2000, 3)
    tokens, how, first_s, cut_s = list[int](), "finished", 0.0, perf_counter()
    try:
        async with AsyncExitStack() as stack:
            async with gate:
                client = await stack.enter_async_context(dsdq.connect(url))
                generation = client.generate(
                    prompt, draft=DRAFTER, window=WINDOW, max_tokens=NEW_TOKENS, ignore_eos=True
                )
                text = aiter(generation)
                tokens += [(await anext(text)).id for _ in range(FIRST_TOKENS)]
            opened.set()
            await cut.wait()
            cut_s, before = perf_counter(), len(generation.stats.round_trips_ms)
            async for token in text:
                tokens.append(token.id)
                if not first_s and len(generation.stats.round_trips_ms) > before:
                    first_s = perf_counter() - cut_s
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the benchmark looks for
        how = f"{getattr(error, 'code', None) or type(error).__name__}: {error}"
    finally:
        opened.set()
    last_s, right = perf_counter() - cut_s, tokens == decode(prompt, NEW_TOKENS)
    return {"how": how, "right": right, "first_s": first_s, "last_s": last_s}


async def devices(url: str, first: int, count: int) -> None:
    """Run that many devices; say ``open`` when all have a session, and at the end how each went."""
    gate, cut = asyncio.Semaphore(AT_ONCE), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, cut.set)
    opened = [asyncio.Event() for _ in range(count)]
    running = [asyncio.create_task(device(url, first + place, gate, cut, event)) for place, event in enumerate(opened)]
    for event in opened:
        await event.wait()
    print("open", flush=True)
    print(json.dumps(await asyncio.gather(*running)), flush=True)


# Watching


async def watch(redis: Redis, seen: Counter[str]) -> None:
    """Keep the largest figures that Redis tells of its clients, until cancelled."""
    while True:
        info = await redis.info("clients")
        clients = await redis.client_list()
        figures = {
            "connections": info["connected_clients"],
            "output_buffer_bytes": max(int(client["omem"]) for client in clients),
            "recent_output_buffer_bytes": info["client_recent_max_output_buffer"],
        }
        for name, figure in figures.items():
            seen[name] = max(seen[name], figure)
        await asyncio.sleep(SAMPLE_S)


async def memory(redis: Redis, verifier: psutil.Process) -> dict[str, float]:
    """Return what Redis and the verifier use, in MiB."""
    used = (await redis.info("memory"))["used_memory"]
    return {"redis_mib": used / 2**20, "verifier_mib": verifier.memory_info().rss / 2**20}


async def start(stack: AsyncExitStack, ready: str, *arguments: object) -> Child:
    """Start a process of this Python and wait until it says that it is ``ready``."""
    child = await spawn([sys.executable, *map(str, arguments)], stdout=True)
    stack.push_async_callback(child.stop)
    if ready and not (await child.read_line()).startswith(ready):
        msg = f"a process ended before it was {ready}; what it said is above"
        raise DsdqError(msg)
    return child


async def measure(count: int) -> dict[str, Any]:
    """Connect, cut, and wait for all to end."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedRedis(port=0))
        verifier = await start(stack, "ready", "-m", "dsdq", "verifier", "--redis", server.url, "--target", TARGET)
        redis = open_redis(server.url)
        stack.push_async_callback(redis.aclose)
        process = psutil.Process(verifier.pid)
        used = {"before": await memory(redis, process)}
        began_s = perf_counter()
        shares = [(count * place // PROCESSES, count * (place + 1) // PROCESSES) for place in range(PROCESSES)]
        crowds = [
            await start(stack, "", "-m", "bench.connections", "--serve", server.url, first, last - first)
            for first, last in shares
        ]
        await asyncio.gather(*(crowd.read_line() for crowd in crowds))
        open_s = perf_counter() - began_s
        seen, until_cut = Counter[str](), await redis.info("stats")
        used["open"] = await memory(redis, process)
        watching = asyncio.create_task(watch(redis, seen))
        killed = await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for crowd in crowds:
            crowd.send_signal(signal.SIGUSR1)
        ended = [one for crowd in crowds for one in json.loads(await crowd.read_line() or "[]")]
        await end(watching)
        used["after"] = await memory(redis, process)
        stats = await redis.info("stats")
        return {
            "devices": count,
            "open_s": open_s,
            "connections_cut": killed,
            "connections_made_again": stats["total_connections_received"] - until_cut["total_connections_received"],
            "connections_rejected": stats["rejected_connections"],
            "verifier_lives": process.is_running() and verifier.running,
            **figures(ended, count),
            "largest": dict(seen),
            "memory": used,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        }


def figures(ended: Sequence[dict[str, Any]], count: int) -> dict[str, Any]:
    """Return how the devices ended, and the times of those that finished, in seconds after the cut."""
    good = [one for one in ended if one["how"] == "finished"]
    how = Counter(one["how"] for one in ended) + Counter({"silent": count - len(ended)})
    times = {
        f"{name}_{which}_s": pick([one[f"{name}_s"] for one in good] or [0.0])
        for name in ("first", "last")
        for which, pick in (("median", median), ("max", max))
    }
    return {"ended": dict(how), "wrong_texts": sum(not one["right"] for one in good), **times}


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    ended = ", ".join(f"{how} {count}" for how, count in sorted(result["ended"].items()))
    print(f"{result['devices']} devices, all open after {result['open_s']:.1f} s; how they ended: {ended}")
    print(f"wrong texts: {result['wrong_texts']}; connections refused by Redis: {result['connections_rejected']}")
    print(f"cut {result['connections_cut']} connections, {result['connections_made_again']} made again")
    print(
        f"first verdict after the cut: median {result['first_median_s']:.2f} s, last {result['first_max_s']:.2f} s; "
        f"all texts done after {result['last_max_s']:.2f} s"
    )
    print("largest: " + ", ".join(f"{name} {figure}" for name, figure in result["largest"].items()))
    for when, row in result["memory"].items():
        print(f"{when:<8}Redis {row['redis_mib']:8.1f} MiB, verifier {row['verifier_mib']:8.1f} MiB")


def main() -> int:
    """Measure, print, write; fail unless every device finished with the right text."""
    parser = options(__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    raise_limit()
    if arguments.serve:
        url, first, count = arguments.serve
        asyncio.run(devices(url, int(first), int(count)))
        return 0
    result = asyncio.run(measure(arguments.devices))
    show(result)
    write(result, arguments.json)
    return 0 if result["ended"] == {"finished": arguments.devices} and not result["wrong_texts"] else 1


if __name__ == "__main__":
    sys.exit(main())
