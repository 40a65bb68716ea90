"""Tokenizers that cut the same text differently."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.tiny import make_tokenizer

SPACE = "▁"


class Until:
    """Lets a draft go on until it has so many tokens, and keeps what it was asked."""

    def __init__(self, tokens: int, *, uses_confidence: bool = False) -> None:
        self.uses_confidence = uses_confidence
        self.asked: list[tuple[int, float | None]] = []
        self._tokens = tokens

    def __call__(self, tokens: Sequence[int], confidence: float | None) -> bool:
        self.asked.append((len(tokens), confidence))
        return len(tokens) < self._tokens


@pytest.fixture(scope="session")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Tokenizer]:
    """Give a byte-level one, a smaller one that wants BOS before a text, and one in SentencePiece's manner."""
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder, bos=True)
    return {"large": Tokenizer.load("builtin/target"), "small": Tokenizer.load(folder), "spaces": sentence_piece()}


def sentence_piece() -> Tokenizer:
    """Make one whose words begin with ``▁``, which puts a space before every text and falls back to bytes."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    corpus = [line for file in sorted(Path(__file__).parent.glob("*.py")) for line in file.read_text().splitlines()]
    backend.train_from_iterator(corpus, trainer)
    backend.add_tokens([f"<0x{byte:02X}>" for byte in range(256)])
    return with_bytes(backend)


def with_bytes(backend: tokenizers.Tokenizer) -> Tokenizer:
    """Move the byte tokens from the added ones into the vocabulary, where the fallback looks for them."""
    parts = json.loads(backend.to_str())
    for token in parts["added_tokens"]:
        parts["model"]["vocab"][token["content"]] = token["id"]
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["special"]]
    made = tokenizers.Tokenizer.from_str(json.dumps(parts))
    made.post_processor = processors.TemplateProcessing(single="<s> $A", pair=None, special_tokens=[("<s>", 1)])
    return Tokenizer(made, {"bos_token": "<s>", "eos_token": "</s>"})
