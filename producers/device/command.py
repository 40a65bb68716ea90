"""``dsdq generate``: one prompt, drafted here, verified there."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

import dsdq
from dsdq.client import DEFAULT_DRAFT, DEFAULT_WINDOW
from dsdq.contract import MAX_WINDOW, Rule, Sampling
from dsdq.errors import PromptError
from dsdq.settings import settings


def generate(  # noqa: PLR0913, PLR0917 - the flags of a command
    prompt: Annotated[str | None, typer.Argument(help="The prompt; read from standard input when absent.")] = None,
    redis: Annotated[str | None, typer.Option(help="The service's Redis URL.", show_default="DSDQ_REDIS_URL")] = None,
    draft: Annotated[str, typer.Option(help="A draft model's name or path, ngram, or none.")] = DEFAULT_DRAFT,
    model: Annotated[str | None, typer.Option(help="The target, when several are served.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 128,
    window: Annotated[int, typer.Option(min=1, max=MAX_WINDOW, help="Draft tokens per round.")] = DEFAULT_WINDOW,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="0 is off.")] = 0,
    top_p: Annotated[float, typer.Option(help="1 is off.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="0 is off.")] = 0.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes the text at temperature above 0.")] = None,
    rule: Annotated[Rule, typer.Option(help="How draft tokens are accepted.")] = Rule.COUPLED,
    trusted: Annotated[bool, typer.Option("--trusted", help="Ask for a trusted tenant's terms.")] = False,  # noqa: FBT002
    tenant: Annotated[str, typer.Option(help="On whose behalf.")] = "default",
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print tokens as they come.")] = True,  # noqa: FBT002
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,  # noqa: FBT002
) -> None:
    """Generate the target's text after PROMPT, drafting on this machine."""
    text = sys.stdin.buffer.read().decode(errors="surrogateescape") if prompt is None else prompt
    if not text:
        msg = "expected a prompt as the argument or on standard input, got an empty one"
        raise PromptError(msg)
    options = {
        "draft": draft,
        "model": model,
        "max_tokens": max_tokens,
        "window": window,
        "sampling": Sampling(temperature, top_k, top_p, min_p),
        "seed": seed,
        "rule": rule,
        "trusted": trusted,
    }
    asyncio.run(_run(redis or settings().redis_url, tenant, text, options, stream=stream, as_json=as_json))


async def _run(url: str, tenant: str, prompt: str, options: dict[str, Any], *, stream: bool, as_json: bool) -> None:
    async with dsdq.connect(url, tenant=tenant) as client:
        generation = client.generate(prompt, **options)
        pieces: list[str] = []
        async for token in generation:
            pieces.append(token.text)
            if stream and not as_json:
                typer.echo(token.text, nl=False)
        text = "".join(pieces)
        if as_json:
            typer.echo(json.dumps(_summary(prompt, text, generation)))
        else:
            typer.echo("" if stream else text)


def _summary(prompt: str, text: str, generation: dsdq.Generation) -> dict[str, Any]:
    stats = generation.stats
    return {
        "prompt": prompt,
        "text": text,
        "ids": generation.ids,
        "finish_reason": generation.finish_reason,
        "tokens_per_s": stats.tokens_per_s,
        "acceptance_rate": stats.acceptance_rate,
        "tokens_per_round": stats.tokens_per_round,
        "stats": asdict(stats),
    }
