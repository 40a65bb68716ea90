"""The device of ``bench/wan.py``, a process of its own: ``python -m bench.wan_device JOB``, the job as JSON.

Its first line is the round trip of a PING in milliseconds; then one for each way, in their order. All are JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import aclosing
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

import dsdq
from bench.wan_world import DEEPEST, WIDEST, Run
from dsdq.bus.connection import open_redis

PINGS = 9
WARM_UP_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Job:
    """What a device does.

    Attributes:
        url: Redis, behind the link.
        draft: the drafter.
        prompt: text or token ids.
        seed: of the hash drafter's luck.
        tokens: to generate in each way.
        limit_s: a text that takes longer ends there.
        policies: one after the other.
        core: where to run, None for anywhere.
    """

    url: str
    draft: str
    prompt: str | list[int]
    seed: int
    tokens: int
    limit_s: float
    policies: list[str]
    core: int | None


async def link_ms(url: str) -> float:
    """Return the median round trip of a PING."""
    redis = open_redis(url)
    try:
        taken = []
        for _ in range(PINGS):
            began = perf_counter()
            await redis.ping()
            taken.append(1000 * (perf_counter() - began))
        return median(taken)
    finally:
        await redis.aclose()


async def generate(client: dsdq.Client, job: Job, policy: str, tokens: int) -> Run:
    """Generate the job's text under ``policy`` and say how it came."""
    generation = client.generate(
        job.prompt,
        draft=job.draft,
        window=WIDEST,
        depth=DEEPEST,
        policy=policy,
        seed=job.seed,
        max_tokens=tokens,
        ignore_eos=True,
    )
    stats, kinds, arrivals, began = generation.stats, "", list[tuple[float, int]](), perf_counter()
    async with aclosing(generation):
        async for token in generation:
            taken_ms = 1000 * (perf_counter() - began)
            kinds += token.kind[0]
            if len(stats.round_trips_ms) > len(arrivals):
                if taken_ms > 1000 * job.limit_s:
                    break
                arrivals.append((taken_ms, 0))
            arrivals[-1] = (arrivals[-1][0], len(kinds))
    trips = zip(stats.round_trips_ms, stats.queue_ms, stats.verify_ms, strict=True)
    return Run(
        ttft_ms=stats.ttft_ms,
        arrivals=arrivals,
        kinds=kinds,
        drafted=stats.drafted_tokens,
        draft_ms=stats.draft_ms,
        bytes=stats.bytes_up + stats.bytes_down,
        verify_ms=stats.verify_ms,
        network_ms=[trip - queue - verify for trip, queue, verify in trips],
    )


async def run(job: Job) -> None:
    """Do the job. A short text comes first, so that no way pays for what is done once."""
    print(await link_ms(job.url), flush=True)
    async with dsdq.connect(job.url) as client:
        await generate(client, job, "static:4:2", WARM_UP_TOKENS)
        for policy in job.policies:
            print(json.dumps(asdict(await generate(client, job, policy, job.tokens))), flush=True)


def main() -> None:
    """Read the job from the command line and do it."""
    job = Job(**json.loads(sys.argv[1]))
    if job.core is not None:
        os.sched_setaffinity(0, {job.core})
    asyncio.run(run(job))


if __name__ == "__main__":
    main()
