"""One stream: what speculation through Redis gains over decoding without it.

    python bench/single.py [--quick] [--json FILE]

Compares, prompt by prompt and interleaved, on the built-in pair in float32 with greedy decoding:

    target_only   Hugging Face ``generate`` with the target alone
    assisted      Hugging Face ``generate(assistant_model=…)`` with the same draft
    dsdq_none     dsdq through Redis, nothing drafted: its own engine decodes alone
    dsdq          dsdq through Redis, the draft on this side, the verifier in another process

All four give the same token ids (checked). Figures are medians over repeats; ratios are what counts.
"""

from __future__ import annotations

import os

from bench.options import options, write
from dsdq.threads import share_cores

share_cores()  # as the verifier does for itself; every way of decoding here is fastest so

import asyncio
import platform
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import mean, median
from time import perf_counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import dsdq
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.client import DEFAULT_WINDOW
from dsdq.models.names import resolve
from dsdq.models.prompts import builtin_prompts
from dsdq.models.tokenizer import Tokenizer
from producers.demo.fleet import verifier

TARGET, DRAFT = "builtin/target", "builtin/draft"
NEW_TOKENS = 128


@dataclass
class Runs:
    """What one way of decoding took: seconds per repeat for all prompts, and the ids it gave."""

    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    ids: list[list[int]] = field(default_factory=list)
    stats: list[dsdq.GenerationStats] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Return the median rate."""
        return self.tokens / median(self.seconds)


def load(name: str) -> Any:  # noqa: ANN401 - transformers is untyped
    """Return a model as Hugging Face runs it, with its end of text switched off so that every run is equally long."""
    model = AutoModelForCausalLM.from_pretrained(resolve(name), dtype=torch.float32).eval()  # type: ignore[no-untyped-call]
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def hugging_face(model: Any, assistant: Any = None) -> Callable[[list[int]], Awaitable[list[int]]]:  # noqa: ANN401
    """Return a way of decoding: greedy ``generate``, with an assistant or without."""

    async def decode(prompt: list[int]) -> list[int]:
        ids = torch.tensor([prompt])
        options = {"assistant_model": assistant} if assistant is not None else {}
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, **options
            )
        return [int(token) for token in out[0, len(prompt) :]]

    return decode


def through_redis(
    client: dsdq.Client, draft: str, window: int, runs: Runs
) -> Callable[[list[int]], Awaitable[list[int]]]:
    """Return a way of decoding: dsdq, with a drafter on this side."""

    async def decode(prompt: list[int]) -> list[int]:
        generation = client.generate(prompt, draft=draft, window=window, max_tokens=NEW_TOKENS, ignore_eos=True)
        ids = [token.id async for token in generation]
        runs.stats.append(generation.stats)
        return ids

    return decode


async def measure(prompts: list[list[int]], repeats: int, window: int) -> dict[str, Runs]:
    """Run every way over every prompt, interleaved, after one warm-up each."""
    target, draft = load(TARGET), load(DRAFT)
    runs = {name: Runs() for name in ("target_only", "assisted", "dsdq_none", "dsdq")}
    async with EmbeddedRedis() as redis, verifier(redis.url, TARGET), dsdq.connect(redis.url) as client:
        ways = {
            "target_only": hugging_face(target),
            "assisted": hugging_face(target, draft),
            "dsdq_none": through_redis(client, "none", window, runs["dsdq_none"]),
            "dsdq": through_redis(client, DRAFT, window, runs["dsdq"]),
        }
        for name, way in ways.items():
            await way(prompts[0])
            runs[name].stats.clear()
        for _ in range(repeats):
            spent = dict.fromkeys(ways, 0.0)
            for run in runs.values():
                run.ids = []
            for prompt in prompts:
                for name, way in ways.items():
                    started = perf_counter()
                    runs[name].ids.append(await way(prompt))
                    spent[name] += perf_counter() - started
            for name, run in runs.items():
                run.seconds.append(spent[name])
                run.tokens = sum(map(len, run.ids))
    return runs


def where_time_goes(stats: list[dsdq.GenerationStats]) -> dict[str, float]:
    """Return a round's mean parts in milliseconds, and the rate that draft and forward alone would allow."""
    rounds = sum(one.rounds for one in stats)
    draft = sum(one.draft_ms for one in stats) / rounds
    verify = mean(ms for one in stats for ms in one.verify_ms)
    queue = mean(ms for one in stats for ms in one.queue_ms)
    trip = mean(ms for one in stats for ms in one.round_trips_ms)
    per_round = sum(one.committed_tokens for one in stats) / rounds
    total = sum(one.duration_ms for one in stats) / rounds
    return {
        "draft_ms": draft,
        "forward_and_accept_ms": verify,
        "queue_ms": queue,
        "redis_and_python_ms": trip - verify - queue,
        "other_ms": total - draft - trip,
        "round_ms": total,
        "tokens_per_round": per_round,
        "acceptance_rate": sum(one.accepted_tokens for one in stats) / max(sum(one.drafted_tokens for one in stats), 1),
        "limit_tokens_per_s": 1000 * per_round / (draft + verify),
    }


def summary(runs: dict[str, Runs], prompts: int, window: int) -> dict[str, Any]:
    """Return the JSON result."""
    rate = {name: run.tokens_per_s for name, run in runs.items()}
    return {
        "tokens_per_s": rate,
        "ratio_vs_assisted": rate["dsdq"] / rate["assisted"],
        "ratio_vs_target_only": rate["dsdq"] / rate["target_only"],
        "ratio_vs_own_target_only": rate["dsdq"] / rate["dsdq_none"],
        "identical": {name: run.ids == runs["target_only"].ids for name, run in runs.items()},
        "where_time_goes": where_time_goes(runs["dsdq"].stats),
        "prompts": prompts,
        "new_tokens": NEW_TOKENS,
        "window": window,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}",
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    rate = result["tokens_per_s"]
    print(f"machine: {result['machine']}; {result['prompts']} prompts x {result['new_tokens']} tokens, greedy")
    print(f"{'way':<14}{'tokens/s':>10}{'dsdq is':>10}  same ids as target_only")
    for name, value in rate.items():
        print(f"{name:<14}{value:>10.1f}{rate['dsdq'] / value:>9.2f}x  {'yes' if result['identical'][name] else 'NO'}")
    print(f"\none round (window {result['window']}):")
    for name, value in result["where_time_goes"].items():
        print(f"  {name:<24}{value:>9.2f}")


def main() -> int:
    """Measure, print, write."""
    parser = options(__doc__, quick="fewer prompts, one repeat")
    parser.add_argument("--window", type=int, default=DEFAULT_WINDOW)
    arguments = parser.parse_args()
    count, repeats = (4, 1) if arguments.quick else (12, 3)
    tokenizer = Tokenizer.load(TARGET)
    prompts = [tokenizer.encode(text) for text in builtin_prompts()[:count]]
    runs = asyncio.run(measure(prompts, repeats, arguments.window))
    result = summary(runs, count, arguments.window)
    show(result)
    write(result, arguments.json)
    return 0 if all(result["identical"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
