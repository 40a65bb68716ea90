"""``dsdq device``: a device that goes on asking for texts, as one out there does, whatever happens to the service."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer

import dsdq
from dsdq.client import DEFAULT_DRAFT, GenerationStats
from dsdq.errors import BusError, DeniedError, DsdqError, NoVerifierError, QuotaError, SessionError
from dsdq.models.prompts import builtin_prompts, read_prompts
from dsdq.policies.retry import Backoff
from dsdq.settings import settings
from dsdq.tasks import end
from dsdq.wire import ErrorCode

FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 500, 10_000
SHOWN_CHARACTERS = 48
_LATER = frozenset({ErrorCode.NO_ANSWER, ErrorCode.EXPIRED, ErrorCode.DEADLINE, ErrorCode.LOG_LOST})


def device(
    redis: Annotated[str | None, typer.Option(help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")] = None,
    tenant: Annotated[str, typer.Option(help="On whose behalf.")] = "default",
    draft: Annotated[
        list[str],
        typer.Option(help="A draft model's name or path, ngram, none, …: see README.md. More are for when it fails."),
    ] = [DEFAULT_DRAFT],  # noqa: B006 - typer copies it
    prompts: Annotated[
        Path | None,
        typer.Option(help="A prompt in each line, or a .json array of them.", show_default="the built-in pair's"),
    ] = None,
    texts: Annotated[int, typer.Option(min=0, help="End after so many; 0 goes on until interrupted.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a text at most.")] = 96,
    pause_s: Annotated[float, typer.Option(min=0.0, help="Seconds between texts.")] = 0.0,
) -> None:
    """Generate text after text, drafting on this machine, and print a line for each; outlive whoever goes away."""
    given = builtin_prompts() if prompts is None else read_prompts(prompts)
    running = Edge(redis or settings().redis_url, tenant, tuple(draft), max_tokens, pause_s)
    asyncio.run(_until_interrupted(running, given, texts))


@dataclass(slots=True)
class Edge:
    """A device: where it asks, for whom, and how. ``done`` counts its texts, ``tokens`` theirs."""

    url: str
    tenant: str
    drafts: tuple[str, ...]
    max_tokens: int
    pause_s: float
    done: int = 0
    tokens: int = 0

    async def run(self, prompts: Iterator[str]) -> None:
        """Generate the text of every prompt; one that fails for reasons that pass is asked for again, later.

        Raises:
            DsdqError: it will fail however often it is asked for.
        """
        pauses = Backoff(random.Random(secrets.randbits(64)), FIRST_PAUSE_MS, LONGEST_PAUSE_MS)  # noqa: S311
        prompt = next(prompts, None)
        while prompt is not None:
            try:
                async with dsdq.connect(self.url, tenant=self.tenant) as client:
                    while prompt is not None:
                        await self._generate(client, prompt)
                        pauses.reset()
                        prompt = next(prompts, None)
                        await asyncio.sleep(self.pause_s if prompt is not None else 0)
            except DsdqError as error:
                wait_ms = _wait_ms(error, pauses)
                typer.echo(f"again in {wait_ms / 1000:.1f} s: {error}", err=True)
                await asyncio.sleep(wait_ms / 1000)

    async def _generate(self, client: dsdq.Client, prompt: str) -> None:
        generation = client.generate(prompt, draft=self.drafts, max_tokens=self.max_tokens)
        try:
            text = "".join([token.text async for token in generation])
        finally:
            await generation.aclose()
        self.done += 1
        self.tokens += generation.stats.committed_tokens
        typer.echo(f"text {self.done}: {_figures(generation.stats)}: {_beginning(prompt + text)}")


async def _until_interrupted(edge: Edge, prompts: list[str], texts: int) -> None:
    """Run a device until it has done ``texts``, or a signal ends it and frees its session."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    running = asyncio.create_task(edge.run(islice(cycle(prompts), texts or None)))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
    ended = running.done()
    await end(running, stopped)
    typer.echo(f"ended: {edge.done} texts, {edge.tokens} tokens")
    if ended:
        running.result()


def _wait_ms(error: DsdqError, pauses: Backoff) -> float:
    """Return how long to wait before asking again, or raise the error if that will not help."""
    if isinstance(error, QuotaError) and error.retry_after_ms >= 0:
        return max(error.retry_after_ms, pauses.next_ms())
    passes = isinstance(error, NoVerifierError | BusError) and not isinstance(error, DeniedError)
    if passes or (isinstance(error, SessionError) and error.code in _LATER):
        return max(getattr(error, "retry_after_ms", 0), pauses.next_ms())
    raise error


def _figures(stats: GenerationStats) -> str:
    accepted = f"{stats.acceptance_rate:.0%} accepted" if stats.judged_tokens else "nothing drafted"
    moved = f", {stats.takeovers} takeovers" if stats.takeovers else ""
    return f"{stats.committed_tokens} tokens, {stats.tokens_per_s:.1f} tok/s, {accepted}{moved}"


def _beginning(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[: SHOWN_CHARACTERS - 1]}…"
