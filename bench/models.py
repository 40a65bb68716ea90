"""Random-weight models of the shapes that engine benchmarks speak of."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dsdq.models.target import Target, describe


def llama_30m() -> Any:  # noqa: ANN401 - transformers is untyped
    """Return a Llama of 30 million parameters in float32: hidden 512, 8 layers, 8 heads, vocabulary 4096."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=4096,
    )
    return LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]


def target_30m() -> Target:
    """Return it as a target."""
    return describe(llama_30m(), "llama-30m", "random")
