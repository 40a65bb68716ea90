"""Devices in a process of their own: ``python -m producers.twin.device JOB``, the job as JSON.

The first line is the round trip of a PING in milliseconds; then, for each policy in turn, one for each device. All are
JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

from dsdq.bus.connection import open_redis
from dsdq.policies.window import MAX_DEPTH
from dsdq.sim.observed import Observed, Recorder
from producers.device.over_redis import RedisClient

WIDEST, DEEPEST = 32, MAX_DEPTH
PINGS = 9
WARM_UP_TOKENS = 96
SPARE_THREADS = 4


@dataclass(frozen=True, slots=True)
class Job:
    """What the devices do.

    Attributes:
        url: Redis, behind the link.
        draft: the drafter.
        prompts: of each device, text or token ids.
        seed: of the first one's drafter's luck; the others' count up.
        tokens: to generate under each policy.
        limit_s: a text that takes longer ends there.
        policies: one after the other.
        acquainted: those under which each device makes a short text first, and learns what that shows,
        before: of these prompts.
        rtt_ms: the link's round trip, without
        jitter_ms: what it takes longer than that, on average.
        core: where to run, None for anywhere.
    """

    url: str
    draft: str
    prompts: list[str] | list[list[int]]
    seed: int
    tokens: int
    limit_s: float
    policies: list[str]
    acquainted: list[str]
    before: list[str] | list[list[int]]
    rtt_ms: float
    jitter_ms: float
    core: int | None

    def line(self) -> str:
        """Return the job as it stands on a command line."""
        return json.dumps(asdict(self))


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


async def generate(
    client: RedisClient, job: Job, device: int, policy: str, tokens: int, *, before: bool = False
) -> Observed:
    """Generate a device's text under ``policy``, or the one ``before`` it, and say how it came, up to the limit.

    Who serves is looked up first, so that no text pays for that by how long another one took.
    """
    await client.workers()
    generation = client.generate(
        job.before[device] if before else job.prompts[device],
        draft=job.draft,
        window=WIDEST,
        depth=DEEPEST,
        policy=policy,
        seed=job.seed + device,
        max_tokens=tokens,
        ignore_eos=True,
    )
    recorder = Recorder(generation.stats, perf_counter)
    async with aclosing(generation):
        async for token in generation:
            if recorder.begun and recorder.at_verdict and recorder.took_s > job.limit_s:
                break
            recorder.add(token)
    return recorder.observed(
        policy,
        device=device,
        text=job.seed + device,
        rtt_ms=job.rtt_ms,
        jitter_ms=job.jitter_ms,
        max_window=WIDEST,
        max_depth=DEEPEST,
        max_tokens=tokens,
    )


async def run(job: Job) -> None:
    """Do the job. Short texts come first, so that no policy pays for what is done once."""
    devices, warm_up = range(len(job.prompts)), min(WARM_UP_TOKENS, job.tokens)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(len(devices) + SPARE_THREADS))
    say(json.dumps(await link_ms(job.url)))
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RedisClient(job.url)) for _ in devices]
        for policy in ("static:4:2", *job.acquainted):
            await asyncio.gather(*(generate(clients[one], job, one, policy, warm_up, before=True) for one in devices))
        for policy in job.policies:
            texts = (generate(clients[one], job, one, policy, job.tokens) for one in devices)
            for text in await asyncio.gather(*texts):
                say(text.model_dump_json())


def say(line: str) -> None:
    """Let whoever started this process have a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read the job from the command line and do it."""
    job = Job(**json.loads(sys.argv[1]))
    if job.core is not None:
        os.sched_setaffinity(0, {job.core})
    asyncio.run(run(job))


if __name__ == "__main__":
    main()
