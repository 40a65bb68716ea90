"""What the pair is worth: held-out losses, acceptance, time per token."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from dsdq import sampling
from dsdq.contract import Sampling
from dsdq.models.target import load_target
from dsdq.testing.reference import load_reference
from producers.drafters.llama import LlamaDrafter
from training import corpus
from workers.engine.engine import Engine
from workers.engine.memory import KvMemory
from workers.engine.rows import Row

PROMPTS = 64
LEAST_TOKENS, MOST_TOKENS = 20, 60
PROMPTS_MEASURED, TOKENS_MEASURED = 48, 128
WINDOW = 256
TIMED_STEPS = 200
STARTS = ("def ", "class ", "    def ", "async def ", "    async def ")


def prompts(tokenizer: Tokenizer) -> list[str]:
    """Return beginnings of functions and classes of held-out files, as many from each file."""
    by_file = [_beginnings(tokenizer, text) for text in corpus.texts(held_out=True)]
    chosen: list[str] = []
    depth = 0
    while len(chosen) < PROMPTS and any(depth < len(found) for found in by_file):
        chosen += [found[depth] for found in by_file if depth < len(found)]
        depth += 1
    return chosen[:PROMPTS]


def _beginnings(tokenizer: Tokenizer, text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    found = []
    for place, line in enumerate(lines):
        if not line.startswith(STARTS):
            continue
        for end in range(place + 1, min(place + 8, len(lines) + 1)):
            snippet = "".join(lines[place:end])
            count = len(tokenizer.encode(snippet).ids)
            if LEAST_TOKENS <= count <= MOST_TOKENS:
                found.append(snippet.rstrip("\n"))
                break
    return found[:: max(1, len(found) // 8)]


@torch.inference_mode()
def held_out_loss(model: LlamaForCausalLM, ids: np.ndarray) -> float:
    """Return nats per token over the held-out files, in windows without overlap."""
    rows = torch.from_numpy(ids[: len(ids) // (WINDOW + 1) * (WINDOW + 1)].astype(np.int64)).view(-1, WINDOW + 1)
    losses = [
        functional.cross_entropy(model(part[:, :-1]).logits.flatten(0, 1), part[:, 1:].flatten()).item()
        for part in rows.split(16)
    ]
    return mean(losses)


@torch.inference_mode()
def acceptance(target: str, draft: Path, texts: list[list[int]]) -> dict[str, float]:
    """Return how often a drafted token stands, on the target's own continuations of prompts that were kept apart."""
    reference = load_reference(target)
    judge: Any = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    model: Any = AutoModelForCausalLM.from_pretrained(draft, dtype=torch.float32).eval()
    found: dict[str, list[float]] = {"t1": [], "greedy": [], "one_minus_tv": []}
    for seed, prompt in enumerate(texts):
        for name, chosen in (("t1", Sampling(temperature=1.0)), ("greedy", Sampling())):
            ids = reference.decode(prompt, TOKENS_MEASURED, chosen, seed)
            whole = torch.tensor([[*prompt, *ids]])
            logits = model(whole).logits[0, len(prompt) - 1 : -1].numpy()
            drafted = sampling.choose(logits, chosen, seed, len(prompt), 0)
            found[name] += (drafted == np.array(ids)).astype(float).tolist()
            if name == "t1":
                theirs = judge(whole).logits[0, len(prompt) - 1 : -1].numpy()
                overlap = np.minimum(sampling.law(theirs, chosen), sampling.law(logits, chosen)).sum(-1)
                found["one_minus_tv"] += overlap.tolist()
    return {name: round(mean(values), 4) for name, values in found.items()}


def milliseconds_per_token(target: str, draft: Path, prompt: list[int]) -> dict[str, float]:
    """Return a token's median time: the target in dsdq's engine and in Hugging Face, the draft in its own step."""
    engine, blocks = Engine(load_target(target), KvMemory(tokens=1024)), tuple(range(16))
    engine.forward([Row("s", 0, prompt, 1, blocks)])
    model: Any = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    stepper = LlamaDrafter(draft).stepper()
    stepper.feed(prompt, 0)
    with torch.inference_mode(), threadpool_limits(limits=1, user_api="blas"):  # as drafters do
        cache = model(torch.tensor([prompt]), use_cache=True).past_key_values
        steps: dict[str, Callable[[int], object]] = {
            "target_engine": lambda position: engine.forward([Row("s", position, [5], 1, blocks)]),
            "target_hugging_face": lambda _: model(torch.tensor([[5]]), past_key_values=cache, use_cache=True),
            "draft_step": lambda position: stepper.feed([5], position),
        }
        return {name: _median_ms(step, len(prompt)) for name, step in steps.items()}


def _median_ms(step: Callable[[int], object], first: int) -> float:
    times = []
    for position in range(first, first + TIMED_STEPS):
        started = perf_counter()
        step(position)
        times.append(perf_counter() - started)
    return round(1000 * median(times), 3)


def facts(folder: Path, tokenizer: Tokenizer, work: Path) -> dict[str, Any]:
    """Return everything that is said about the pair in `folder`, measured on the files as they are shipped."""
    ids = np.load(work / "held_out.npy")
    result: dict[str, Any] = {}
    for role in ("target", "draft"):
        model = AutoModelForCausalLM.from_pretrained(folder / role, dtype=torch.float32).eval()
        result[role] = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "bytes": (folder / role / "model.safetensors").stat().st_size,
            "validation_loss": round(held_out_loss(model, ids), 4),
        }
    texts = [tokenizer.encode(text).ids for text in prompts(tokenizer)[:PROMPTS_MEASURED]]
    target, draft = folder / "target", folder / "draft"
    result["acceptance"] = acceptance(str(target), draft, texts)
    result["milliseconds_per_token"] = milliseconds_per_token(str(target), draft, texts[0])
    print(json.dumps(result, indent=2))
    return result
