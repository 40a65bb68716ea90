"""What a WebSocket costs a device, and what thousands of devices cost a gateway.

    python -m bench.ingress [--quick] [--json FILE]

*One*: texts of ``testing/hash`` with steps of 5 ms, one at a time, the same ones over Redis and over a gateway's
WebSocket in turns; every text is held against the known one. Ratios are medians, text by text.

*Crowd*: so many idle devices connect to one gateway process; then 50 more generate, several texts each, while the idle
ones stay. Shown: the gateway's resident memory for each idle connection, tokens per second with and without the idle
ones, wrong texts, and how many of the idle ones are still there and are answered at the end.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from time import perf_counter
from typing import Any

import dsdq
from bench.gateway import MIB, gateway
from bench.options import options, write
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.models.names import HASH_TARGET
from dsdq.settings import settings
from dsdq.testing.hashed import decode
from producers.demo.fleet import verifier
from producers.device.over_websocket import Identity, WebSocketWay

os.environ |= {"DSDQ_HASH_STEP_MS": "5", "DSDQ_SLOTS": "512"}  # all processes inherit them

DRAFT, TOKENS, TEXTS = "hash:0.8", 64, 4
ALONE, IDLE, ACTIVE, AT_ONCE = 40, 2_000, 50, 50


async def text(client: dsdq.Client, number: int) -> tuple[float, float]:
    """Generate a text and return its time to the first token and per token behind it, in milliseconds."""
    prompt, began, ids = [number % 1000, number // 1000], perf_counter(), list[int]()
    first = began
    async for token in client.generate(prompt, draft=DRAFT, max_tokens=TOKENS):
        first = first if ids else perf_counter()
        ids.append(token.id)
    if ids != decode(prompt, TOKENS):
        msg = f"text {number} is not the target's"
        raise RuntimeError(msg)
    return 1000 * (first - began), 1000 * (perf_counter() - first) / (TOKENS - 1)


async def alone(redis: str, place: str, count: int) -> dict[str, float]:
    """Return the medians of both ways, and of the ratios."""
    async with dsdq.connect(redis) as direct, dsdq.connect(place) as through:
        await asyncio.gather(text(direct, 0), text(through, 0))
        pairs = [(await text(direct, number), await text(through, number)) for number in range(count)]
    found = dict[str, float]()
    for at, what in enumerate(("ttft", "tpot")):
        found |= {
            f"{name}_{what}_ms": median(pair[way][at] for pair in pairs) for way, name in enumerate(("redis", "ws"))
        }
        found[f"{what}_overhead"] = median(ws[at] / redis[at] for redis, ws in pairs)
    return found


async def active(place: str, devices: int, first: int) -> float:
    """Let devices generate at once, each with a connection of its own; return tokens per second."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(dsdq.connect(place)) for _ in range(devices)]

        async def run(client: dsdq.Client, mine: Sequence[int]) -> None:
            for number in mine:
                await text(client, number)

        began = perf_counter()
        await asyncio.gather(
            *(run(client, range(first + at, first + TEXTS * devices, devices)) for at, client in enumerate(clients))
        )
        return TEXTS * devices * TOKENS / (perf_counter() - began)


async def crowd(redis: str, idle: int, devices: int) -> dict[str, Any]:
    """Let so many connect and stay."""
    async with gateway(redis, "ngram") as (where, process):
        place = f"ws://{where}"
        alone_per_s = await active(place, devices, 1_000)
        before = process.memory_info().rss
        ways = [WebSocketWay(place, "default", "", Identity(settings())) for _ in range(idle)]
        for at in range(0, idle, AT_ONCE):
            await asyncio.gather(*(way.open() for way in ways[at : at + AT_ONCE]))
        with_idle = process.memory_info().rss
        crowded_per_s = await active(place, devices, 10_000)
        answers = list[Any]()
        for at in range(0, idle, AT_ONCE):
            asked = (way.served(None, ()) for way in ways[at : at + AT_ONCE])
            answers += await asyncio.gather(*asked, return_exceptions=True)
        peak = process.memory_info().rss
        await asyncio.gather(*(way.close() for way in ways))
    return {
        "idle": idle,
        "active": devices,
        "kib_per_idle": (with_idle - before) / 1024 / idle,
        "before_mib": before / MIB,
        "idle_mib": with_idle / MIB,
        "end_mib": peak / MIB,
        "tokens_per_s": alone_per_s,
        "tokens_per_s_with_idle": crowded_per_s,
        "idle_answered": sum(isinstance(one, dict) for one in answers),
    }


async def measure(*, quick: bool) -> dict[str, Any]:
    """Run both parts."""
    async with AsyncExitStack() as stack:
        redis = (await stack.enter_async_context(EmbeddedRedis(port=0))).url
        await stack.enter_async_context(verifier(redis, HASH_TARGET))
        result: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "tokens": TOKENS}
        async with gateway(redis, "ngram") as (where, _):
            result["one"] = await alone(redis, f"ws://{where}", ALONE // 10 if quick else ALONE)
        result["crowd"] = await crowd(redis, IDLE // 10 if quick else IDLE, ACTIVE // 10 if quick else ACTIVE)
    return result


def show(result: dict[str, Any]) -> None:
    """Print both parts."""
    for part in ("one", "crowd"):
        print(f"{part}: " + ", ".join(f"{name} {value:.4g}" for name, value in result[part].items()))


if __name__ == "__main__":
    arguments = options(__doc__, quick="a tenth of it").parse_args()
    measured = asyncio.run(measure(quick=arguments.quick))
    show(measured)
    write(measured, arguments.json)
