"""``dsdq generate``: one prompt, drafted here, verified there."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

import dsdq
from dsdq.client import DEFAULT_DRAFT, Generation
from dsdq.contract import MAX_WINDOW, Biases, FinishReason, Rule, Sampling
from dsdq.errors import ConfigError, PromptError
from dsdq.policies.window import MAX_DEPTH
from dsdq.settings import settings
from producers.device.choosing import Choosing

Window = Annotated[
    int | None, typer.Option(min=1, max=MAX_WINDOW, help="Draft tokens per round; at most, with a policy.")
]
Depth = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_DEPTH, help="Rounds in flight; 1 waits for each; at most, with a policy."),
]
Policy = Annotated[
    str | None,
    typer.Option(
        help="What chooses window, depth and who drafts.", show_default="optimal, unless window or depth is given"
    ),
]


def generate(  # noqa: PLR0913, PLR0917 - the flags of a command
    prompt: Annotated[str | None, typer.Argument(help="The prompt; read from standard input when absent.")] = None,
    redis: Annotated[
        str | None,
        typer.Option(help="The service's Redis URL, or a gateway's: ws:// or wss://.", show_default="DSDQ_REDIS_URL"),
    ] = None,
    draft: Annotated[
        list[str],
        typer.Option(help="A draft model's name or path, ngram, none, …: see README.md. More are for when it fails."),
    ] = [DEFAULT_DRAFT],  # noqa: B006 - typer copies it
    model: Annotated[str | None, typer.Option(help="The target, when several are served.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 128,
    window: Window = None,
    depth: Depth = None,
    policy: Policy = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="0 is off.")] = 0,
    top_p: Annotated[float, typer.Option(help="1 is off.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="0 is off.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Over prompt and text; 1 is off.")] = 1.0,
    presence_penalty: Annotated[float, typer.Option(help="-2 to 2, over the text; 0 is off.")] = 0.0,
    frequency_penalty: Annotated[float, typer.Option(help="-2 to 2, over the text; 0 is off.")] = 0.0,
    logit_bias: Annotated[list[str] | None, typer.Option(metavar="ID=VALUE", help="-100 to 100; repeatable.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Ends the text before it; repeatable.")] = None,
    stop_id: Annotated[list[int] | None, typer.Option(help="A token id that ends the text; repeatable.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after the end of text.")] = False,  # noqa: FBT002
    logprobs: Annotated[int, typer.Option(help="Likeliest tokens to report with --json; 0 is off.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes the text at temperature above 0.")] = None,
    rule: Annotated[Rule, typer.Option(help="How draft tokens are accepted.")] = Rule.COUPLED,
    trusted: Annotated[bool, typer.Option("--trusted", help="Ask for a trusted tenant's terms.")] = False,  # noqa: FBT002
    tenant: Annotated[str, typer.Option(help="On whose behalf.")] = "default",
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print tokens as they come.")] = True,  # noqa: FBT002
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,  # noqa: FBT002
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append how the text came, for `dsdq sim calibrate`.")
    ] = None,
) -> None:
    """Generate the target's text after PROMPT, drafting on this machine."""
    text = sys.stdin.buffer.read().decode(errors="surrogateescape") if prompt is None else prompt
    if not text:
        msg = "expected a prompt as the argument or on standard input, got an empty one"
        raise PromptError(msg)
    sampling = Sampling(
        temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, _biases(logit_bias)
    )
    ends = {"max_tokens": max_tokens, "stop": stop or (), "stop_ids": stop_id or (), "ignore_eos": ignore_eos}
    drafting = {"draft": draft, "window": window, "depth": depth, "policy": policy, "rule": rule, "trusted": trusted}
    options = {"model": model, "sampling": sampling, "seed": seed, "logprobs": logprobs, **ends, **drafting}
    url = redis or settings().redis_url
    asyncio.run(_run(url, tenant, text, options, stream=stream, as_json=as_json, trace=trace))


async def _run(
    url: str, tenant: str, prompt: str, options: dict[str, Any], *, stream: bool, as_json: bool, trace: Path | None
) -> None:
    async with dsdq.connect(url, tenant=tenant) as client:
        generation = client.generate(prompt, **options)
        tokens, recorder = list[dsdq.Token](), None
        if trace is not None:
            from dsdq.sim import observed  # noqa: PLC0415 - with it come all scenarios, which few texts need

            observed.append_observed(trace)  # what cannot be written is told before there is a text
            recorder = observed.Recorder(generation.stats, perf_counter)
        async for token in generation:
            tokens.append(token)
            if recorder is not None:
                recorder.add(token)
            if stream and not as_json:
                typer.echo(token.text, nl=False)
        if as_json:
            typer.echo(json.dumps(_summary(prompt, tokens, generation)))
        else:
            typer.echo("" if stream else "".join(token.text for token in tokens))
    if recorder is not None and trace is not None:
        observed.append_observed(trace, recorder.observed(**_terms(options, generation)))


def _terms(options: dict[str, Any], generation: Generation) -> dict[str, Any]:
    """Return what a trace says of the terms that a text was generated under.

    A bound that it did not reach says nothing of its length.
    """
    ended = generation.finish_reason is not FinishReason.LENGTH
    chosen = Choosing.of(options["policy"], options["window"], options["depth"], options["rule"])
    bounds = {"max_window": chosen.max_window, "max_depth": chosen.max_depth}
    return {"policy": chosen.name, "max_tokens": None if ended else options["max_tokens"], **bounds}


def _biases(given: Sequence[str] | None) -> Biases:
    """Return the biases of ``ID=VALUE`` arguments in the order of their ids."""
    try:
        pairs = [one.split("=", 1) for one in given or ()]
        return tuple(sorted((int(token), float(value)) for token, value in pairs))
    except ValueError:
        msg = f"logit_bias: expected a token id and a number as ID=VALUE, got {', '.join(given or ())}"
        raise ConfigError(msg) from None


def _summary(prompt: str, tokens: Sequence[dsdq.Token], generation: dsdq.Generation) -> dict[str, Any]:
    stats = generation.stats
    likely = [
        {"id": token.id, "text": token.text, "logprob": token.logprob, "top": token.top_logprobs}
        for token in tokens
        if token.logprob is not None
    ]
    return {
        "prompt": prompt,
        "text": "".join(token.text for token in tokens),
        "ids": generation.ids,
        "finish_reason": generation.finish_reason,
        "logprobs": likely or None,
        "tokens_per_s": stats.tokens_per_s,
        "acceptance_rate": stats.acceptance_rate,
        "tokens_per_round": stats.tokens_per_round,
        "stats": asdict(stats),
    }
