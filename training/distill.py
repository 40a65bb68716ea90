"""The draft: it learns the target's distribution, on the library's text and on text that the target wrote itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from training import shapes, tokens
from training.loop import Run, train

BATCH, LENGTH = 16, 256
PROMPT_TOKENS = 16
TEXTS_AT_ONCE = 96
SUPPORT = 40
"""The target's likeliest tokens that are kept of each position's distribution; the others count as one."""
SEED = 20260102


def write_texts(target: LlamaForCausalLM, folder: Path, batches: int) -> np.ndarray:
    """Let the target continue `batches × TEXTS_AT_ONCE` beginnings at temperature 1; uint16 `[texts, LENGTH]`."""
    written = folder / "written.npy"
    if written.exists():
        return np.load(written)
    ids = np.load(folder / "train.npy")
    texts = []
    for number in range(batches):
        torch.manual_seed(SEED + number)
        begun = tokens.windows(ids, TEXTS_AT_ONCE, PROMPT_TOKENS - 1, np.random.default_rng((SEED, number)))
        with torch.inference_mode():
            whole = target.generate(
                begun,
                attention_mask=torch.ones_like(begun),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=LENGTH - PROMPT_TOKENS,
                min_new_tokens=LENGTH - PROMPT_TOKENS,
                pad_token_id=0,
            )
        texts.append(whole.numpy().astype(np.uint16))
        print(f"written {number + 1}/{batches}", flush=True)
    np.save(written, np.concatenate(texts))
    return np.load(written)


def label(target: LlamaForCausalLM, rows: np.ndarray, folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the target's law behind each token of `rows` `[n, LENGTH]`, computed once and kept in `folder`.

    Ids uint16 and probabilities float16, both `[n, LENGTH, SUPPORT]`, the likeliest first.
    """
    files = folder / f"{name}_ids.npy", folder / f"{name}_law.npy"
    if not files[1].exists():
        ids = np.empty((*rows.shape, SUPPORT), dtype=np.uint16)
        law = np.empty((*rows.shape, SUPPORT), dtype=np.float16)
        for start in range(0, len(rows), BATCH):
            part = torch.from_numpy(rows[start : start + BATCH].astype(np.int64))
            with torch.inference_mode():
                best = target(part, use_cache=False).logits.softmax(-1).topk(SUPPORT)
            ids[start : start + BATCH] = best.indices.numpy()
            law[start : start + BATCH] = best.values.numpy()
        np.save(files[0], ids)
        np.save(files[1], law)
    return np.load(files[0]), np.load(files[1])


def cross_entropy(logits: torch.Tensor, ids: np.ndarray, law: np.ndarray) -> torch.Tensor:
    """Return the mean cross-entropy, in nats, of a draft's `logits` `[batch, LENGTH, vocab]` against a kept law."""
    wanted = torch.from_numpy(law.astype(np.float32))
    said = functional.log_softmax(logits, dim=-1).gather(-1, torch.from_numpy(ids.astype(np.int64)))
    rest_wanted = (1 - wanted.sum(-1)).clamp_min(0)
    rest_said = (1 - said.exp().sum(-1)).clamp_min(1e-6).log()
    return -((wanted * said).sum(-1) + rest_wanted * rest_said).mean()


def distill(target: LlamaForCausalLM, folder: Path, steps: int, batches: int) -> LlamaForCausalLM:
    """Train the draft on the target's law: half of each batch is the library's text, half the target's own."""
    written = write_texts(target, folder, batches)
    ids = np.load(folder / "train.npy")
    library = tokens.windows(ids, 2 * len(written), LENGTH - 1, np.random.default_rng(SEED)).numpy().astype(np.uint16)
    sources = [
        (rows, *label(target, rows, folder, name)) for rows, name in ((written, "written"), (library, "library"))
    ]
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(shapes.draft())

    def loss_of(step: int) -> torch.Tensor:
        random = np.random.default_rng((SEED, step))
        picked = [[part[random_rows] for part in source] for source, random_rows in _picks(sources, random)]
        rows, kept_ids, kept_law = (np.concatenate(parts) for parts in zip(*picked, strict=True))
        logits = model(torch.from_numpy(rows.astype(np.int64)), use_cache=False).logits
        return cross_entropy(logits, kept_ids, kept_law)

    train(model, loss_of, Run(steps, folder / "draft.state", "draft"))
    return model


def _picks(
    sources: list[tuple[np.ndarray, ...]], random: np.random.Generator
) -> list[tuple[tuple[np.ndarray, ...], np.ndarray]]:
    """Return each source with the rows of it that a batch takes."""
    return [(source, random.integers(0, len(source[0]), BATCH // len(sources))) for source in sources]
