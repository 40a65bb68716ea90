"""Tiny models with random weights, saved the way real ones are: a folder with weights, configuration and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB_SIZE = 384
CONTEXT_TOKENS = 512
SLIDING_WINDOW = 24
BOS, EOS = "<s>", "</s>"

# Large enough that a random model's next token depends on all of its text, instead of repeating one token for ever.
_INIT_STD = 0.3
_COMMON: Mapping[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
    "initializer_range": _INIT_STD,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "qwen2": {"num_key_value_heads": 4},
    "mistral": {"sliding_window": SLIDING_WINDOW},
    "gemma": {"num_key_value_heads": 1, "head_dim": 32},
    "gemma2": {"head_dim": 32, "sliding_window": SLIDING_WINDOW, "attn_logit_softcapping": 5.0},
    "gemma3_text": {
        "head_dim": 32,
        "sliding_window": SLIDING_WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 32,
    },
    "gpt2": {"n_inner": 160, "tie_word_embeddings": True},
    "qwen3": {"head_dim": 32},
    "phi3": {"sliding_window": SLIDING_WINDOW, "pad_token_id": 2},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
}
# Which tokenizers put a BOS token before a text, as the real ones do.
_WITH_BOS = frozenset({"llama", "mistral", "gemma", "gemma2", "gemma3_text", "mixtral"})

_TEXT = (
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n",
    "for name, value in items.items():\n    print(name, value)\n",
    "class Session:\n    def __init__(self, target, draft):\n        self.target, self.draft = target, draft\n",
    "The target model verifies what the draft model proposes, and the text is the target's own.\n",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 素早い茶色の狐 🦊\n",
)


def make_tiny(folder: str | Path, architecture: str = "llama", seed: int = 0) -> Path:
    """Save a tiny model of one of :data:`ARCHITECTURES` with its tokenizer into ``folder`` and return the folder.

    The same architecture and seed give the same weights; all architectures but for BOS have the same tokenizer.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    config = AutoConfig.for_model(architecture, **{**_COMMON, **ARCHITECTURES[architecture]})
    maker: Any = AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = maker.from_config(config)
    model.generation_config.eos_token_id = config.eos_token_id
    model.save_pretrained(place)
    make_tokenizer(place, bos=architecture in _WITH_BOS)
    return place


def make_tokenizer(folder: str | Path, *, bos: bool = False, vocab_size: int = VOCAB_SIZE) -> None:
    """Train a byte-level BPE on a few lines of text and save it into ``folder``; a smaller one has other ids."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    if bos:
        template = processors.TemplateProcessing(single=f"{BOS} $A", pair=None, special_tokens=[(BOS, 0)])
        tokenizer.post_processor = template
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS}
    tokenizer.save(str(Path(folder) / "tokenizer.json"))
    (Path(folder) / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
