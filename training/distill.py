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
TEXTS_AT_ONCE = 64
SEED = 20260102


def write_texts(target: LlamaForCausalLM, folder: Path, batches: int) -> np.ndarray:
    """Let the target continue `batches × TEXTS_AT_ONCE` beginnings at temperature 1."""
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
                max_new_tokens=LENGTH + 1 - PROMPT_TOKENS,
                min_new_tokens=LENGTH + 1 - PROMPT_TOKENS,
                pad_token_id=0,
            )
        texts.append(whole.numpy().astype(np.uint16))
        print(f"written {number + 1}/{batches}", flush=True)
    np.save(written, np.concatenate(texts))
    return np.load(written)


def distill(target: LlamaForCausalLM, folder: Path, steps: int, batches: int) -> LlamaForCausalLM:
    """Train the draft on the target's distribution: half of each batch is the library's text, half the target's own."""
    written = write_texts(target, folder, batches)
    ids = np.load(folder / "train.npy")
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(shapes.draft())

    def loss_of(step: int) -> torch.Tensor:
        random = np.random.default_rng((SEED, step))
        library = tokens.windows(ids, BATCH // 2, LENGTH - 1, random)
        own = torch.from_numpy(written[random.integers(0, len(written), BATCH // 2), :LENGTH].astype(np.int64))
        rows = torch.cat([library, own])
        with torch.no_grad():
            wanted = target(rows, use_cache=False).logits.softmax(-1)
        logits = model(rows, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(0, 1))

    train(model, loss_of, Run(steps, folder / "draft.state", "draft"))
    return model
