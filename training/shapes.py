"""The two models' shapes: equal in kind, ten to one in parameters and in time per token."""

from __future__ import annotations

from transformers import LlamaConfig

from training import vocabulary

CONTEXT_TOKENS = 2048


def _llama(hidden: int, intermediate: int, layers: int, heads: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary.SIZE,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=vocabulary.BOS_ID,
        eos_token_id=vocabulary.EOS_ID,
        rms_norm_eps=1e-5,
    )


def target() -> LlamaConfig:
    """Ten layers of 192: 4.8 million parameters."""
    return _llama(hidden=192, intermediate=512, layers=10, heads=3)


def draft() -> LlamaConfig:
    """Two layers of 96: 0.45 million parameters, most of them in the embedding."""
    return _llama(hidden=96, intermediate=320, layers=2, heads=2)
