"""How a batch's throughput grows with batch workers, until the verifier is full.

    python -m bench.batches [--quick] [--json FILE]

One verifier over ``testing/hash`` whose steps take 100 ms whoever is in them, with 32 places. Each batch worker does
eight lines at once, drafts with ``hash:0.8`` and is a process of its own. For each number of workers one batch is done;
tokens per second are counted between the first and the last quarter of its lines, and ``share`` is their ratio to as
many times what one worker does, at most four times that: then all places are taken.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any

SLOTS, SESSIONS = 32, 8
os.environ |= {"DSDQ_HASH_STEP_MS": "100", "DSDQ_SLOTS": str(SLOTS), "DSDQ_ALLOW_UNSAFE_REDIS": "1"}

from bench.options import options, write
from dsdq.batches import Batch
from dsdq.bus.batches import BatchStore
from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.bus.files import FileBounds, FileStore
from dsdq.models.names import HASH_TARGET
from dsdq.processes import spawn
from dsdq.settings import settings
from producers.demo.fleet import verifier
from producers.openai.requests import COMPLETIONS

TENANT, TOKENS, LOOK_S = "default", 48, 0.05
WORKERS = (1, 2, 3, 4, 6)


async def _lines(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        body = {"model": HASH_TARGET, "prompt": [number + 1], "max_tokens": TOKENS, "ignore_eos": True}
        line = {"custom_id": str(number), "method": "POST", "url": COMPLETIONS, "body": body}
        yield json.dumps(line).encode() + b"\n"


async def _reach(batches: BatchStore, batch: Batch, done: int) -> tuple[float, int]:
    """Return when so many lines were seen done, and how many it really were."""
    while (found := await batches.get(TENANT, batch.id)).done < done:  # noqa: ASYNC110 - Redis gives no event
        await asyncio.sleep(LOOK_S)
    if found.failed:
        msg = f"expected every line to be answered, {found.failed} failed"
        raise RuntimeError(msg)
    return perf_counter(), found.done


async def run(redis: str, workers: int, lines: int) -> float:
    """Return tokens per second with so many workers."""
    command = [sys.executable, "-m", "dsdq", "batch", "worker", "--redis", redis]
    async with AsyncExitStack() as stack:
        for _ in range(workers):
            child = await spawn([*command, "--draft", "hash:0.8", "--sessions", str(SESSIONS)], stdout=True)
            stack.push_async_callback(child.stop)
            await child.read_line()
        client = open_redis(redis)
        stack.push_async_callback(client.aclose)
        chosen = settings()
        files = FileStore(client, FileBounds(chosen.file_bytes, chosen.tenant_file_bytes, chosen.file_ttl_ms))
        batches = BatchStore(client, chosen.file_ttl_ms)
        info = await files.add(TENANT, _lines(lines), filename="lines.jsonl", purpose="batch")
        batch = await batches.create(TENANT, input_file_id=info.id, endpoint=COMPLETIONS)
        began_s, before = await _reach(batches, batch, lines // 4)
        ended_s, after = await _reach(batches, batch, 3 * lines // 4)
        await _reach(batches, batch, lines)
    return TOKENS * (after - before) / (ended_s - began_s)


async def measure(*, quick: bool) -> dict[str, Any]:
    """Do one batch with each number of workers."""
    rounds = 4 if quick else 12
    result: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "tokens_per_s": {}}
    async with EmbeddedRedis(port=0) as redis, verifier(redis.url, HASH_TARGET):
        for workers in WORKERS:
            result["tokens_per_s"][workers] = await run(redis.url, workers, rounds * SESSIONS * workers)
    alone = result["tokens_per_s"][1]
    result["share"] = {
        workers: rate / (alone * min(workers, SLOTS // SESSIONS)) for workers, rate in result["tokens_per_s"].items()
    }
    return result


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'batch workers':>13} {'tokens/s':>9} {'share of what they could':>25}")
    for workers, rate in result["tokens_per_s"].items():
        print(f"{workers:13} {rate:9.1f} {result['share'][workers]:25.3f}")


if __name__ == "__main__":
    arguments = options(__doc__, quick="a third of the lines").parse_args()
    measured = asyncio.run(measure(quick=arguments.quick))
    show(measured)
    write(measured, arguments.json)
