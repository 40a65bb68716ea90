"""One demo device: ``python -m producers.demo.device JOB`` generates its prompts and prints events as JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict

import dsdq
from dsdq.errors import DsdqError
from dsdq.settings import settings
from dsdq.telemetry.logs import configure
from producers.demo.events import Began, Event, Failed, Finished, Spoke, to_line
from producers.demo.fleet import Job


def _say(event: Event) -> None:
    sys.stdout.write(to_line(event) + "\n")
    sys.stdout.flush()


async def _generate(client: dsdq.Client, job: Job, number: int, prompt: str) -> None:
    generation = client.generate(
        prompt,
        draft=job.draft,
        sampling=dsdq.Sampling(temperature=job.temperature),
        max_tokens=job.max_tokens,
        window=job.window,
        depth=job.depth,
        seed=job.seed,
    )
    async for token in generation:
        _say(Spoke(job.device, number, token.text, token.kind))
    stats = asdict(generation.stats)
    _say(Finished(job.device, number, list(generation.prompt_ids), generation.ids, stats))


async def run(job: Job) -> None:
    """Generate every prompt of the job at once, over one connection."""
    try:
        async with dsdq.connect(job.url) as client, asyncio.TaskGroup() as group:
            _say(Began(job.device))
            for number, prompt in job.prompts.items():
                group.create_task(_generate(client, job, number, prompt))
    except* DsdqError as errors:
        _say(Failed(job.device, str(errors.exceptions[0])))


def main() -> None:
    """Read the job from the command line and run it."""
    configure(settings().log_level)
    fields = json.loads(sys.argv[1])
    fields["prompts"] = {int(number): prompt for number, prompt in fields["prompts"].items()}
    asyncio.run(run(Job(**fields)))


if __name__ == "__main__":
    main()
