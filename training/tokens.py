"""The corpus as token ids on disk, and random windows of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from training import corpus, vocabulary


def prepare(folder: Path) -> Tokenizer:
    """Make, or load if already made, the tokenizer and both sides of the corpus under `folder`."""
    made = folder / "tokenizer.json"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = vocabulary.train(corpus.texts(held_out=False))
        for name, held_out in (("train", False), ("held_out", True)):
            np.save(folder / f"{name}.npy", encode(tokenizer, corpus.texts(held_out=held_out)))
        tokenizer.save(str(made))
    return Tokenizer.from_file(str(made))


def encode(tokenizer: Tokenizer, texts: Iterable[str]) -> np.ndarray:
    """All texts as one row of uint16 ids, each framed by the ids that begin and end a file."""
    rows = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append(np.array([vocabulary.BOS_ID, *ids, vocabulary.EOS_ID], dtype=np.uint16))
    return np.concatenate(rows)


def windows(ids: np.ndarray, batch: int, length: int, random: np.random.Generator) -> torch.Tensor:
    """`[batch, length + 1]` int64: windows that begin at random places of `ids`."""
    starts = random.integers(0, len(ids) - length - 1, size=batch)
    return torch.from_numpy(np.stack([ids[start : start + length + 1] for start in starts]).astype(np.int64))
