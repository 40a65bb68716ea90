"""What a step of the engine takes on one GPU, against the least that the GPU could take.

    python bench/gpu.py [--quick] [--json FILE]

A Llama of the shape of an 8B one, with random bfloat16 weights made on the GPU: nothing is downloaded. A step is one
forward for ``batch`` sessions at a context of 256 tokens, each with ``window`` tokens, and the judge of its logits;
greedy, and drawn at temperature 1. The modes:

    graphs          small shapes replayed from CUDA graphs (the default)
    eager           every kernel launched from Python
    deterministic   graphs, and the same bits whoever else is in the batch

The least is the larger of two times: the bytes of weights and of the sessions' keys and values over the bandwidth of a
large copy, and the operations over the rate of a large bfloat16 product, both measured in the same run. "of limit" is
the least over what was taken. Times are medians.

Redis and numba are not needed. On a machine without a package index that has torch, transformers, triton and numpy,
carry the wheel of array-api-compat.
"""

from __future__ import annotations

import platform
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

import torch
import transformers

from bench.options import options, write
from dsdq.contract import Contract, Sampling
from dsdq.models.target import Target, describe
from dsdq.policies.paging import BLOCK, blocks_for
from workers.engine.engine import Engine
from workers.engine.forward import Options
from workers.engine.judge import judge
from workers.engine.memory import KvMemory
from workers.engine.rounds import Judged
from workers.engine.rows import Row

SHAPE = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
CONTEXT = 256
WINDOWS = 1, 5
BATCHES, QUICK_BATCHES = (1, 4, 16, 64, 128, 256), (1, 16, 64)
REPEATS, QUICK_REPEATS = 20, 5
MODES = {
    "graphs": Options(step_tokens=1024),
    "eager": Options(graphs=False),
    "deterministic": Options(deterministic=True, step_tokens=1024),  # last: it replaces the model's layers
}
LAWS = {"greedy": Sampling(), "T=1": Sampling(1.0)}
NO_GPU = "no CUDA GPU here: nothing measured"


@dataclass(frozen=True)
class Limits:
    """What the GPU reached in this run: bytes a second of a copy, read and written, and operations a second."""

    bytes_per_s: float
    flops_per_s: float


@dataclass(frozen=True)
class Measured:
    """One case: milliseconds of a step and of its forward alone, and the least that a step could take."""

    mode: str
    law: str
    batch: int
    window: int
    step_ms: float
    forward_ms: float
    least_ms: float
    bound: str

    @property
    def of_limit(self) -> float:
        """Return the least over what was taken."""
        return self.least_ms / self.step_ms


def timed_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the median milliseconds of a call with all its work on the GPU, after a warm-up of three."""
    times: list[float] = []
    for number in range(repeats + 3):
        torch.cuda.synchronize()
        started = perf_counter()
        call()
        torch.cuda.synchronize()
        if number >= 3:
            times.append(1000 * (perf_counter() - started))
    return median(times)


def limits(repeats: int) -> Limits:
    """Measure a copy of 2 GB and a product of 8192 x 8192 x 8192, both on random numbers."""
    source = torch.randn(1 << 30, dtype=torch.bfloat16, device="cuda")
    copy = torch.empty_like(source)
    copy_ms = timed_ms(lambda: copy.copy_(source), repeats)
    factor = source[: 8192 * 8192].view(8192, 8192)
    product_ms = timed_ms(lambda: factor @ factor, repeats)
    return Limits(2e3 * source.nbytes / copy_ms, 2e3 * 8192**3 / product_ms)


def build() -> Target:
    """Make the model on the GPU."""
    config = transformers.LlamaConfig(**SHAPE)  # type: ignore[arg-type]
    maker: Any = transformers.AutoModelForCausalLM
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = maker.from_config(config, dtype=torch.bfloat16).eval()
    return describe(model, "random-llama-8b", "random")


def least(target: Target, batch: int, window: int, limit: Limits) -> tuple[float, str]:
    """Return the least milliseconds of a step, and whether memory or arithmetic bounds it.

    Weights are read once, of the embeddings only a few rows; a token's product takes two operations for each weight,
    and four for each key, dimension and head that it attends to.
    """
    config, model = target.model.config, target.model
    head_dim = config.hidden_size // config.num_attention_heads
    weights = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    tokens, seen = batch * window, CONTEXT + window
    cached = batch * seen * 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim
    attended = tokens * seen * 4 * config.num_hidden_layers * config.num_attention_heads * head_dim
    memory_s = 2 * (weights + cached) / limit.bytes_per_s
    compute_s = (2 * weights * tokens + attended) / limit.flops_per_s
    return 1000 * max(memory_s, compute_s), "memory" if memory_s >= compute_s else "arithmetic"


def rows_of(batch: int, window: int, vocab: int) -> Iterator[tuple[Row, Row]]:
    """Give each session's context, and its window behind it, with blocks of its own."""
    source, each = random.Random(0), blocks_for(CONTEXT + max(WINDOWS))
    for number in range(batch):
        blocks = range(number * each, (number + 1) * each)
        text = [source.randrange(vocab) for _ in range(CONTEXT + window)]
        session = str(number)
        yield Row(session, 0, text[:CONTEXT], 0, blocks), Row(session, CONTEXT, text[CONTEXT:], window, blocks)


def rounds_of(rows: Sequence[Row], law: Sampling) -> list[Judged]:
    """Return what the judge needs to know of the windows."""
    return [
        Judged(
            Contract("t", "p", row.session, "m", "f", sampling=law, seed=number),
            CONTEXT + 1,
            tuple(row.tokens[1:]),
            None,
            len(row.tokens) - 1,
        )
        for number, row in enumerate(rows)
    ]


def _stepped(engine: Engine, rows: Sequence[Row], rounds: Sequence[Judged]) -> None:
    judge(rounds, engine.forward(rows), 0)


def cases(
    engine: Engine, mode: str, limit: Limits, weights: Target, sizes: tuple[Sequence[int], int]
) -> list[Measured]:
    """Measure all batches, windows and laws in one mode."""
    found = []
    batches, repeats = sizes
    for batch in batches:
        for window in WINDOWS:
            contexts, rows = zip(*rows_of(batch, window, engine.target.vocab_size), strict=True)
            for context in contexts:
                engine.forward([context])
            forward_ms = timed_ms(partial(engine.forward, rows), repeats)
            least_ms, bound = least(weights, batch, window, limit)
            for law, terms in LAWS.items():
                rounds = rounds_of(rows, terms)
                step_ms = timed_ms(partial(_stepped, engine, rows, rounds), repeats)
                found.append(Measured(mode, law, batch, window, step_ms, forward_ms, least_ms, bound))
                show(found[-1])
    return found


def show(one: Measured) -> None:
    """Print one line of the table."""
    print(
        f"{one.mode:<14}{one.law:<8}{one.batch:>6}{one.window:>7}{one.step_ms:>10.2f}{one.forward_ms:>11.2f}"
        f"{one.least_ms:>9.2f}{one.of_limit:>9.0%}  {one.bound}",
        flush=True,
    )


def machine() -> str:
    """Name what was measured."""
    import triton  # noqa: PLC0415 - without a GPU it may be missing

    name = torch.cuda.get_device_name()
    return f"{name}, torch {torch.__version__}, triton {triton.__version__}, Python {platform.python_version()}"


def measure(quick: bool) -> dict[str, Any]:  # noqa: FBT001 - the benchmark's one choice
    """Measure everything and return the JSON result; ``{"skipped": …}`` without a GPU."""
    if not torch.cuda.is_available():
        print(NO_GPU)
        return {"skipped": NO_GPU}
    batches, repeats = (QUICK_BATCHES, QUICK_REPEATS) if quick else (BATCHES, REPEATS)
    limit = limits(repeats)
    print(f"machine: {machine()}")
    print(
        f"limits: {limit.bytes_per_s / 1e12:.2f} TB/s copied, {limit.flops_per_s / 1e12:.0f} TFLOP/s; context {CONTEXT}"
    )
    print(
        f"{'mode':<14}{'law':<8}{'batch':>6}{'window':>7}{'step ms':>10}{'forward ms':>11}{'least':>9}{'of limit':>9}"
    )
    target = build()
    memory = KvMemory(tokens=max(batches) * blocks_for(CONTEXT + max(WINDOWS)) * BLOCK)
    found: list[Measured] = []
    for mode, chosen in MODES.items():
        engine = Engine(target, memory, chosen)
        found += cases(engine, mode, limit, target, (batches, repeats))
        del engine  # its cache, before the next one's
        torch.cuda.empty_cache()
    return {
        "machine": machine(),
        "context": CONTEXT,
        "copy_tb_per_s": limit.bytes_per_s / 1e12,
        "product_tflop_per_s": limit.flops_per_s / 1e12,
        "steps": [asdict(one) | {"of_limit": one.of_limit} for one in found],
        "ratios": ratios(found),
    }


def ratios(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return, for each case, what eager and deterministic steps take against graphs."""
    times: dict[tuple[str, int, int], dict[str, float]] = {}
    for one in found:
        times.setdefault((one.law, one.batch, one.window), {})[one.mode] = one.step_ms
    return [
        {"law": law, "batch": batch, "window": window}
        | {f"{mode}_vs_graphs": took / by_mode["graphs"] for mode, took in by_mode.items() if mode != "graphs"}
        for (law, batch, window), by_mode in times.items()
    ]


def main() -> int:
    """Measure, print, write."""
    arguments = options(__doc__, quick="fewer batches and repeats").parse_args()
    result = measure(arguments.quick)
    write(result, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
