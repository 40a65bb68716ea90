"""The verifier engine: a whole step against the bare forward of the same rows.

    python bench/engine.py [--quick] [--json FILE] [--device cpu|cuda]

On the CPU, for a Llama of 30 million parameters (random weights, float32), at 256 tokens of context:

    step      what the verifier does for one step: plan, pack, forward, judge, build and pack the verdicts
    bare      the fastest known way to run the model's forward alone on the same rows, everything prepared before:
              the lesser of the engine's own paged attention and torch's attention row by row
    cache     the model as Hugging Face runs it, rows padded into one DynamicCache

The three take turns; figures are medians, ratios are what counts. Then: verified tokens per second against the number
of sessions, memory against its budget, and what a prompt of 2,000 tokens does to 16 sessions that verify. With
``--device cuda`` an 8B-shape model in bfloat16 is measured against the GPU's own limits: see bench/gpu.py.
"""

from __future__ import annotations

from bench.options import options, write
from dsdq.threads import share_cores

share_cores()  # as the verifier does for itself

import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that benchmarks find one another

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, DynamicCache

from bench import gpu
from bench.models import llama_30m, target_30m
from dsdq.bus.inbox import Entry
from dsdq.bus.sessions import Owned
from dsdq.contract import MAX_WINDOW, Contract, Sampling
from dsdq.policies.batching import StepBudget
from dsdq.policies.paging import BLOCK
from dsdq.session import Live, SessionState, Transcript
from dsdq.stopping import StopFinder
from dsdq.wire import Draft, pack, pack_contract
from workers.engine import attention
from workers.engine.engine import Engine
from workers.engine.judging import JudgingEngine
from workers.engine.memory import KvMemory
from workers.engine.planner import Planner
from workers.engine.rows import Row
from workers.engine.rows import pack as pack_rows
from workers.verifier.held import Held, Pending
from workers.verifier.step import Ready, Timing, conclude, ready_rounds

CONTEXT = 256
PROMPT_TOKENS = 2000
CHUNK = 64
VERIFYING = 16
CELLS = {False: ((1, 4, 16, 64), (1, 4, 8)), True: ((1, 16), (1, 4))}


class Sessions:
    """Sessions of one length that verify the same round again and again: nothing is committed."""

    def __init__(self, engine: Engine, batch: int, window: int, sampling: Sampling) -> None:
        """Feed every session's text."""
        self.engine = engine
        self.planner = Planner(engine.kv_blocks, StepBudget(1 << 20, 1 << 20), shares=False)
        self.ready = [self._ready(number, window, sampling) for number in range(batch)]
        for one in self.ready:
            self.planner.admit(one.held.key, "")
        self._feed()

    def _ready(self, number: int, window: int, sampling: Sampling) -> Ready:
        contract = Contract("t", "p", f"s{number}", "m", "f", sampling=sampling, seed=number, max_window=64)
        prompt = np.random.default_rng(number).integers(0, 4096, CONTEXT + 1).tolist()
        transcript = Transcript(pack_contract(contract), prompt)
        tokens = tuple(prompt[: window - 1])  # the last token of the text is fed with them
        message = Draft(contract.session, 0, 1, len(prompt), transcript.digest, tokens)
        stops = StopFinder(None, ())  # type: ignore[arg-type] # there are none
        held = Held(SessionState(contract, transcript, 1, "o"), Owned(contract, 1, "o"), 0.0, stops)
        held.pending.append(Pending(Entry("w", "t", "1-0", {}), message, 0.0))
        return ready_rounds(held, Live(tokens), 4096)

    def _feed(self) -> None:
        for one in (ready.held for ready in self.ready):
            text = one.state.transcript.tokens
            for start in range(0, CONTEXT, CHUNK):
                self.planner.paging.reserve(one.key, start + CHUNK)
                blocks = tuple(self.planner.paging[one.key].blocks)
                self.engine.forward([Row(one.key, start, text[start : start + CHUNK], 0, blocks)])
            self.planner.computed(one.key, text, CONTEXT)

    def step(self) -> None:
        """Do all that the verifier does for a step, but for writing to Redis, which the next forward overlaps."""
        started = monotonic()
        rows = self.planner.plan([one.request for one in self.ready], started)
        by_name = {one.held.key: one for one in self.ready}
        judged = [by_name[row.session].judged for row in rows]
        judgements = JudgingEngine(self.engine).verify(rows, judged, 0)
        timing = Timing(started, monotonic(), len(rows))
        for row, judgement in zip(rows, judgements, strict=True):
            pack(conclude(by_name[row.session], judgement, (), timing, MAX_WINDOW).verdict)
            self.planner.computed(row.session, by_name[row.session].held.state.transcript.tokens, CONTEXT)

    def rows(self) -> list[Row]:
        """Return the step's rows."""
        return self.planner.plan([one.request for one in self.ready], 0.0)


# The bare forward


def _inside(engine: Engine) -> Any:  # noqa: ANN401 - what is its own on a CPU is no part of the protocol
    """Return the engine's forward."""
    return engine._forward


def own_attention(engine: Engine, rows: Sequence[Row]) -> Callable[[], None]:
    """Return the model's forward over the engine's pool, with every index made before."""
    packed, forward = pack_rows(rows), _inside(engine)
    padding = forward._padding.rows(packed.tokens) - packed.tokens

    def fill(values: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([values, np.repeat(values[-1:], padding)]))

    inputs = {
        "input_ids": fill(packed.ids)[None],
        "position_ids": fill(packed.positions)[None],
        "use_cache": False,
        "logits_to_keep": torch.from_numpy(packed.keep),
        "pool": forward.pool,
        "step": forward.pool.step(packed, padding),
    }
    return lambda: forward._model(**inputs)


class RowByRow:
    """torch's attention, one call for each row over a contiguous stretch of a pool ``[slots, heads, dim]``."""

    def __init__(self, rows: int, tokens: int) -> None:
        self.length = tokens
        self.keys, self.values = (torch.randn(8, rows * tokens, 8, 64) for _ in range(2))
        self.index = torch.empty(0, dtype=torch.int64)
        self.window = 0
        self.mask = torch.empty(0)

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *_: object,
        **__: object,
    ) -> tuple[torch.Tensor, None]:
        """Store and attend."""
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        keys, values = self.keys[layer], self.values[layer]
        keys.index_copy_(0, self.index, key[0].transpose(0, 1))
        values.index_copy_(0, self.index, value[0].transpose(0, 1))
        outputs, end = [], CONTEXT + self.window
        for row in range(query.shape[2] // self.window):
            first = row * self.length
            outputs.append(
                scaled_dot_product_attention(
                    query[:, :, row * self.window : (row + 1) * self.window],
                    keys[None, first : first + end].transpose(1, 2),
                    values[None, first : first + end].transpose(1, 2),
                    attn_mask=self.mask,
                )
            )
        return torch.cat(outputs, 2).transpose(1, 2), None

    def forward(self, engine: Engine, batch: int, window: int) -> Callable[[], None]:
        """Return the model's forward with this attention."""
        AttentionInterface.register("bench_rows", self.attend)
        self.window = window
        places = torch.arange(CONTEXT, CONTEXT + window).repeat(batch)
        self.index = torch.arange(batch).repeat_interleave(window) * self.length + places
        self.mask = torch.zeros(window, CONTEXT + window)
        self.mask.masked_fill_(torch.ones_like(self.mask).triu_(CONTEXT + 1).bool(), -torch.inf)
        inputs = {
            "input_ids": torch.zeros(1, batch * window, dtype=torch.int64),
            "position_ids": places[None],
            "use_cache": False,
        }

        model = _inside(engine)._model

        def run() -> None:
            model.set_attn_implementation("bench_rows")
            try:
                model(**inputs)
            finally:
                model.set_attn_implementation(attention.NAME)

        return run


def dynamic_cache(model: Any, batch: int, window: int) -> Callable[[], None]:  # noqa: ANN401
    """Return Hugging Face's forward: one padded batch over a DynamicCache."""
    cache = DynamicCache(config=model.config)
    model(input_ids=torch.zeros(batch, CONTEXT, dtype=torch.int64), past_key_values=cache, logits_to_keep=1)
    ids = torch.zeros(batch, window, dtype=torch.int64)

    def run() -> None:
        model(input_ids=ids, past_key_values=cache)
        cache.crop(-window)

    return run


# Measuring


def turns(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return each way's milliseconds; the ways take turns, so that what slows the machine slows all."""
    for way in ways.values():
        way()
        way()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = perf_counter()
            way()
            spent[name].append(1000 * (perf_counter() - started))
    return spent


@torch.inference_mode()
def cell(engine: Engine, plain: Any, batch: int, window: int, repeats: int) -> dict[str, float]:  # noqa: ANN401
    """Return the medians of one batch and window, in milliseconds."""
    greedy = Sessions(engine, batch, window, Sampling())
    own = own_attention(engine, greedy.rows())
    ways = {
        "paged": own,
        "row_by_row": RowByRow(batch, CONTEXT + BLOCK).forward(engine, batch, window),
        "cache": dynamic_cache(plain, batch, window),
        "step": greedy.step,
    }
    spent = {name: median(times) for name, times in turns(ways, repeats).items()}
    sampled = Sessions(engine, batch, window, Sampling(temperature=1.0))
    again = turns({"paged": own_attention(engine, sampled.rows()), "step": sampled.step}, repeats)
    spent["sampled_over_paged"] = median(again["step"]) / median(again["paged"])
    spent["bare"] = min(spent["paged"], spent["row_by_row"])
    return spent


def cells(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Return the table of steps and forwards."""
    batches, windows = CELLS[quick]
    engine, plain = Engine(target_30m(), KvMemory(tokens=64 * (CONTEXT + BLOCK))), llama_30m()
    found: dict[str, dict[str, float]] = {}
    for batch in batches:
        for window in windows:
            spent = cell(engine, plain, batch, window, repeats=7 if quick else 15)
            found[f"{batch}x{window}"] = spent
            print(
                f"{batch:>3} x {window}  step {spent['step']:7.2f} ms  bare {spent['bare']:7.2f}  "
                f"(row by row {spent['row_by_row']:7.2f}, cache {spent['cache']:7.2f})  "
                f"step/bare {spent['step'] / spent['bare']:.3f}  sampled {_sampled(spent):.3f}  "
                f"forward/cache {spent['bare'] / spent['cache']:.2f}",
                flush=True,
            )
    return {
        "step_over_forward": {name: one["step"] / one["bare"] for name, one in found.items()},
        "step_over_forward_sampled": {name: _sampled(one) for name, one in found.items()},
        "forward_over_cache": {name: one["paged"] / one["cache"] for name, one in found.items()},
        "ms": found,
    }


def _sampled(spent: dict[str, float]) -> float:
    return spent["sampled_over_paged"] * spent["paged"] / spent["bare"]


def throughput(quick: bool) -> dict[str, float]:  # noqa: FBT001
    """Return verified tokens per second by number of sessions, windows of 4."""
    engine, rates = Engine(target_30m(), KvMemory(tokens=64 * (CONTEXT + BLOCK))), {}
    for batch in (1, 8, 64) if quick else (1, 2, 4, 8, 16, 32, 64):
        sessions = Sessions(engine, batch, 4, Sampling())
        spent = median(turns({"step": sessions.step}, 5 if quick else 11)["step"])
        rates[str(batch)] = 4000 * batch / spent
    print("\nverified tokens/s by sessions: " + ", ".join(f"{n}: {rate:.0f}" for n, rate in rates.items()))
    return rates


def memory() -> dict[str, float]:
    """Return the KV budget, and what the process grew by while a whole budget was written."""
    engine = Engine(target_30m(), KvMemory(bytes=64 << 20))
    before = psutil.Process().memory_info().rss
    rows = [Row(f"s{n}", 0, [0] * BLOCK, 0, (n,)) for n in range(engine.kv_blocks)]
    for first in range(0, len(rows), 8):
        engine.forward(rows[first : first + 8])
    grown = psutil.Process().memory_info().rss - before
    held = engine.kv_blocks * engine.block_bytes
    print(f"KV budget 64 MiB: {engine.kv_blocks} blocks take {held >> 20} MiB, the process grew by {grown >> 20} MiB")
    return {"budget_bytes": 64 << 20, "pool_bytes": held, "grown_bytes": grown}


def prefill(quick: bool) -> dict[str, float]:  # noqa: FBT001
    """Return what a long prompt does to the p99 of steps in which 16 sessions verify windows of 8."""
    engine = Engine(target_30m(), KvMemory(tokens=VERIFYING * (CONTEXT + BLOCK) + PROMPT_TOKENS + BLOCK))
    sessions = Sessions(engine, VERIFYING, 8, Sampling())
    chunks = -(-PROMPT_TOKENS // CHUNK)
    prompt_blocks = tuple(range(engine.kv_blocks - chunks, engine.kv_blocks))
    windows = sessions.rows()
    ids = np.random.default_rng(0).integers(0, 4096, PROMPT_TOKENS).tolist()
    alone, mixed, chunk_alone = [], [], []

    def timed(rows: Sequence[Row]) -> float:
        started = perf_counter()
        engine.forward(rows)
        return 1000 * (perf_counter() - started)

    for _ in range(2 if quick else 6):
        for start in range(0, PROMPT_TOKENS, CHUNK):
            chunk = Row("prompt", start, ids[start : start + CHUNK], 0, prompt_blocks)
            alone.append(timed(windows))
            mixed.append(timed([*windows, chunk]))
            chunk_alone.append(timed([chunk]))

    def p99(values: Sequence[float]) -> float:
        return quantiles(values, n=100)[-1]

    result = {
        "p99_alone_ms": p99(alone),
        "p99_with_prompt_ms": p99(mixed),
        "p99_raise_ms": p99(mixed) - p99(alone),
        "median_raise_ms": median(mixed) - median(alone),
        "chunk_alone_p99_ms": p99(chunk_alone),
        "chunk_alone_median_ms": median(chunk_alone),
    }
    print(
        f"a prompt of {PROMPT_TOKENS} in chunks of {CHUNK} beside {VERIFYING} x 8: p99 {result['p99_alone_ms']:.1f} -> "
        f"{result['p99_with_prompt_ms']:.1f} ms; a chunk by itself: median {result['chunk_alone_median_ms']:.1f}, "
        f"p99 {result['chunk_alone_p99_ms']:.1f} ms"
    )
    return result


def main() -> int:
    """Measure, print, write."""
    parser = options(__doc__, quick="fewer cells and repeats")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    result = gpu.measure(arguments.quick) if arguments.device == "cuda" else on_the_cpu(arguments.quick)
    write(result, arguments.json)
    return 0


def on_the_cpu(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Measure and print everything; return the JSON result."""
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}"
    print(f"machine: {machine}; context {CONTEXT}, medians in milliseconds")
    return {
        "memory": memory(),  # first: later the process has memory from elsewhere that it would use again
        **cells(quick),
        "verified_tokens_per_s": throughput(quick),
        "prefill": prefill(quick),
        "context": CONTEXT,
        "machine": machine,
    }


if __name__ == "__main__":
    sys.exit(main())
