"""``dsdq demo``: the main job on one machine, shown while it runs and checked at the end."""

from __future__ import annotations

import asyncio
import json
import secrets
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.console import Console

from dsdq.bus.embedded import EmbeddedRedis
from dsdq.client import DEFAULT_DRAFT, DEFAULT_WINDOW
from dsdq.contract import MAX_WINDOW, Sampling
from dsdq.errors import SessionError
from dsdq.models.prompts import builtin_prompts
from dsdq.policies.window import MAX_DEPTH
from dsdq.wire import ErrorCode
from producers.demo import report
from producers.demo.events import Began, Failed, Finished, Spoke
from producers.demo.fleet import Job, devices, network, verifier
from producers.demo.view import View

TARGET = "builtin/target"
PROMPTS_SHOWN = 6
PIPELINE = 3  # windows in flight where there is something to hide
NOT_IDENTICAL = 1


def demo(  # noqa: PLR0913, PLR0917 - options, each with a default
    devices_: Annotated[int, typer.Option("--devices", min=1, max=64, help="Device processes.")] = 3,
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt; repeat for several.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, max=1024, help="Tokens per prompt.")] = 96,
    window: Annotated[int, typer.Option(min=1, max=MAX_WINDOW, help="Draft tokens per round.")] = DEFAULT_WINDOW,
    depth: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_DEPTH, help="Rounds in flight; 1 waits for each.", show_default="1; 3 with --rtt-ms"
        ),
    ] = None,
    rtt_ms: Annotated[
        float, typer.Option(min=0.0, max=10_000, help="Put devices at this round trip from Redis.")
    ] = 0.0,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes the text at temperature above 0.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,  # noqa: FBT002
) -> None:
    """Run a Redis, a verifier and devices here, and check that the text is the target's own."""
    prompts = prompt or builtin_prompts()[:PROMPTS_SHOWN]
    sampling = Sampling(temperature)
    seed = secrets.randbits(32) if seed is None else seed
    console = Console(stderr=as_json)
    jobs = [
        Job(
            device=device,
            url="",
            draft=DEFAULT_DRAFT,
            prompts={number: text for number, text in enumerate(prompts) if number % devices_ == device},
            max_tokens=max_tokens,
            window=window,
            depth=depth or (PIPELINE if rtt_ms else 1),
            temperature=temperature,
            seed=seed,
        )
        for device in range(min(devices_, len(prompts)))
    ]
    result = asyncio.run(_run(console, prompts, jobs, sampling, seed, rtt_ms))
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        report.show(console, result)
    if not result["identical"]:
        raise typer.Exit(NOT_IDENTICAL)


async def _run(
    console: Console, prompts: list[str], jobs: list[Job], sampling: Sampling, seed: int, rtt_ms: float
) -> dict[str, Any]:
    async with EmbeddedRedis() as redis:
        console.print(f"redis: {redis.url}", highlight=False, markup=False, soft_wrap=True)
        async with verifier(redis.url, TARGET) as said:
            console.print(f"verifier: {said}", highlight=False, markup=False, soft_wrap=True)
            async with network(redis.url, rtt_ms) as url:
                finished, seconds = await _watch(View(console, prompts, len(jobs)), [job.at(url) for job in jobs])
    if len(finished) != len(prompts):
        raise SessionError(ErrorCode.INTERNAL, f"expected {len(prompts)} finished prompts, got {len(finished)}")
    console.print("the same prompts by the target alone ...", highlight=False)
    finished.sort(key=lambda one: one.prompt)
    alone = await asyncio.to_thread(_alone, finished, jobs[0].max_tokens, sampling, seed)
    return report.figures(finished, seconds, alone)


async def _watch(view: View, jobs: list[Job]) -> tuple[list[Finished], float]:
    """Show what the devices say; return what they finished, and the seconds from the first's start to the last token.

    Raises:
        SessionError: a device failed.
    """
    finished: list[Finished] = []
    began = last = 0.0
    with view:
        async for event in devices(jobs):
            view.take(event)
            if isinstance(event, Began):
                began = began or perf_counter()
            elif isinstance(event, Finished):
                finished.append(event)
            elif isinstance(event, Failed):
                raise SessionError(ErrorCode.INTERNAL, f"device {event.device}: {event.message}")
            elif isinstance(event, Spoke):
                last = perf_counter()
    return finished, last - began


def _alone(finished: list[Finished], max_tokens: int, sampling: Sampling, seed: int) -> report.Reference:
    """Decode the same prompts by the target alone, with Hugging Face, one after another."""
    from dsdq.testing.reference import load_reference  # noqa: PLC0415 - needs torch, after the devices are done

    reference = load_reference(TARGET)
    reference.decode(finished[0].prompt_ids, 1, sampling, seed)  # the first call of all takes longer
    started = perf_counter()
    ids = [reference.decode(one.prompt_ids, max_tokens, sampling, seed) for one in finished]
    seconds = perf_counter() - started
    ties = [
        reference.near_ties(one.prompt_ids, text, sampling, seed) if one.ids != text else frozenset()
        for one, text in zip(finished, ids, strict=True)
    ]
    return report.Reference(reference.describe(sampling), ids, ties, seconds)
