"""dsdq: distributed speculative decoding over Redis Streams.

A device drafts tokens, a shared verifier decides, the text is the target model's own::

    async with dsdq.connect("redis://127.0.0.1:6379/0") as client:
        async for token in client.generate("def fib(n):", draft="builtin/draft"):
            print(token.text, end="")
"""

from __future__ import annotations

from dsdq.client import Client, Generation, GenerationStats, Token, TokenKind, connect
from dsdq.contract import FinishReason, Rule, Sampling
from dsdq.errors import DsdqError

__all__ = [
    "Client",
    "DsdqError",
    "FinishReason",
    "Generation",
    "GenerationStats",
    "Rule",
    "Sampling",
    "Token",
    "TokenKind",
    "connect",
]
