"""The target: next-token prediction on the standard library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from training import shapes, tokens
from training.loop import Run, train

BATCH, LENGTH = 16, 256
SEED = 20260101


def pretrain(folder: Path, steps: int) -> LlamaForCausalLM:
    """Train the target for `steps` of `BATCH × LENGTH` tokens; `folder` holds the corpus and the run's state."""
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(shapes.target())
    ids = np.load(folder / "train.npy")

    def loss_of(step: int) -> torch.Tensor:
        rows = tokens.windows(ids, BATCH, LENGTH, np.random.default_rng((SEED, step)))
        logits = model(rows[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    train(model, loss_of, Run(steps, folder / "target.state", "target"))
    return model
