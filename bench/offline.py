"""Many prompts at once, no queue: dsdq's engine against what transformers offers for the same.

    python bench/offline.py [--quick] [--json FILE]

On the built-in pair in float32, greedy, all prompts given at once, everything in one process on the same cores:

    padded        Hugging Face ``generate`` on one left-padded batch
    continuous    Hugging Face ``generate_batch``: continuous batching over a paged cache
    dsdq_none     planner, engine and judge, nothing drafted
    dsdq          the same with the built-in draft, windows of 8

All four give the same token ids, but for places where floating point decides (counted). Devices draft in parallel to
one another and not on the verifier's cores, so ``dsdq`` is given twice: what the verifier spends (drafting excluded),
and with all drafting done here, one text after another, included.
"""

from __future__ import annotations

from bench.options import options, write
from dsdq.threads import share_cores

share_cores()  # as the verifier does for itself; every way of decoding here is fastest so

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.utils import logging

from dsdq.contract import Contract
from dsdq.models.names import resolve
from dsdq.models.prompts import builtin_prompts
from dsdq.models.target import load_target
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.batching import StepBudget
from producers.drafters import load_drafter
from workers.engine.engine import Engine
from workers.engine.memory import KvMemory
from workers.engine.offline import Offline
from workers.engine.planner import Planner

TARGET, DRAFT = "builtin/target", "builtin/draft"
WINDOW = 8
BUDGET = StepBudget(window_tokens=1024, prefill_tokens=256)


@dataclass
class Runs:
    """What one way took: seconds per repeat, of which drafting; the ids it gave; tokens committed per forward row."""

    seconds: list[float] = field(default_factory=list)
    drafting_s: list[float] = field(default_factory=list)
    ids: list[list[int]] = field(default_factory=list)
    tokens_per_round: float = 1.0


class HuggingFace:
    """The target as transformers runs it, its end of text switched off so that all texts are equally long."""

    def __init__(self, new_tokens: int) -> None:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        loaded: Any = AutoModelForCausalLM.from_pretrained(resolve(TARGET), dtype=torch.float32)
        self.model: Any = loaded.eval()
        self.model.generation_config.eos_token_id = None
        self.new_tokens = new_tokens
        self.config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0, use_cache=True
        )

    def padded(self, prompts: Sequence[list[int]], runs: Runs) -> None:
        """Decode one left-padded batch."""
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            out = self.model.generate(ids, attention_mask=mask, generation_config=self.config)
        runs.ids = out[:, longest:].tolist()

    def continuous(self, prompts: Sequence[list[int]], runs: Runs) -> None:
        """Decode with continuous batching; its manager stays between calls, so that setting it up is not measured."""
        room = ContinuousBatchingConfig(max_memory_percent=0.1, max_batch_tokens=BUDGET.window_tokens)
        out = self.model.generate_batch(
            inputs=list(prompts),
            generation_config=self.config,
            continuous_batching_config=room,
            persistent_manager=True,
            warmup=False,
        )
        by_number = sorted(out.items(), key=lambda item: int(item[0].rsplit("_", 1)[1]))
        runs.ids = [list(result.generated_tokens) for _, result in by_number]


class Dsdq:
    """The engine, with a draft for each text or without."""

    def __init__(self, new_tokens: int) -> None:
        self.engine = Engine(load_target(TARGET), KvMemory(tokens=64 * 512))
        self.drafter, self.tokenizer = load_drafter(DRAFT), Tokenizer.load(TARGET)
        self.new_tokens = new_tokens
        self.calls = 0

    def run(self, prompts: Sequence[list[int]], runs: Runs, *, drafts: bool) -> None:
        """Decode the batch."""
        batch, spent, self.calls = Offline(self.engine, Planner(self.engine.kv_blocks, BUDGET)), [0.0], self.calls + 1

        def timed(session: Any) -> Callable[[Sequence[int]], tuple[int, ...]]:  # noqa: ANN401
            def propose(text: Sequence[int]) -> tuple[int, ...]:
                started = perf_counter()
                tokens: tuple[int, ...] = session.propose(text, WINDOW).tokens
                spent[0] += perf_counter() - started
                return tokens

            return propose

        made = []
        for number, prompt in enumerate(prompts):
            contract = Contract(
                "t", "p", f"s{self.calls}-{number}", TARGET, "f", max_tokens=self.new_tokens, max_window=WINDOW,
                ignore_eos=True,
            )  # fmt: skip
            options = {"propose": timed(self.drafter.start(contract, self.tokenizer))} if drafts else {}
            made.append(batch.add(contract, prompt, **options))
        batch.run()
        runs.ids = [one.tokens for one in made]
        runs.drafting_s.append(spent[0])
        runs.tokens_per_round = sum(len(one.tokens) for one in made) / sum(one.rounds for one in made)


def measure(prompts: Sequence[list[int]], new_tokens: int, repeats: int) -> dict[str, Runs]:
    """Run every way over all prompts, taking turns, after one warm-up each."""
    theirs, ours = HuggingFace(new_tokens), Dsdq(new_tokens)
    ways: dict[str, Callable[[Runs], None]] = {
        "padded": lambda runs: theirs.padded(prompts, runs),
        "continuous": lambda runs: theirs.continuous(prompts, runs),
        "dsdq_none": lambda runs: ours.run(prompts, runs, drafts=False),
        "dsdq": lambda runs: ours.run(prompts, runs, drafts=True),
    }
    for way in ways.values():
        way(Runs())
    found = {name: Runs() for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = perf_counter()
            way(found[name])
            found[name].seconds.append(perf_counter() - started)
    return found


def summary(found: dict[str, Runs], prompts: int, new_tokens: int) -> dict[str, Any]:
    """Return the JSON result."""
    tokens = prompts * new_tokens
    rate = {name: tokens / median(runs.seconds) for name, runs in found.items()}
    verifying = [whole - draft for whole, draft in zip(found["dsdq"].seconds, found["dsdq"].drafting_s, strict=True)]
    rate["dsdq_verifier"] = tokens / median(verifying)
    differing = {
        name: sum(one != other for one, other in zip(runs.ids, found["padded"].ids, strict=True))
        for name, runs in found.items()
    }
    return {
        "tokens_per_s": rate,
        "none_over_padded": rate["dsdq_none"] / rate["padded"],
        "none_over_continuous": rate["dsdq_none"] / rate["continuous"],
        "verifier_over_padded": rate["dsdq_verifier"] / rate["padded"],
        "dsdq_over_padded": rate["dsdq"] / rate["padded"],
        "texts_that_differ_from_padded": differing,
        "tokens_per_round": found["dsdq"].tokens_per_round,
        "prompts": prompts,
        "new_tokens": new_tokens,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}",
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"machine: {result['machine']}; {result['prompts']} prompts at once x {result['new_tokens']} tokens, greedy")
    base = result["tokens_per_s"]["padded"]
    for name, rate in result["tokens_per_s"].items():
        differ = result["texts_that_differ_from_padded"].get(name, "")
        print(f"{name:<15}{rate:>9.1f} tokens/s{rate / base:>7.2f}x padded   {differ} texts differ")
    print(f"a round with the draft commits {result['tokens_per_round']:.2f} tokens")


def main() -> int:
    """Measure, print, write."""
    parser = options(__doc__, quick="fewer prompts, one repeat")
    parser.add_argument("--prompts", type=int, default=32)
    arguments = parser.parse_args()
    count, new_tokens, repeats = (8, 32, 1) if arguments.quick else (arguments.prompts, 96, 3)
    tokenizer = Tokenizer.load(TARGET)
    prompts = [tokenizer.encode(text) for text in builtin_prompts()[:count]]
    result = summary(measure(prompts, new_tokens, repeats), len(prompts), new_tokens)
    show(result)
    write(result, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
