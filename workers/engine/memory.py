"""How many KV blocks a budget buys: in tokens, in bytes, or as what the device has free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from dsdq.errors import ConfigError, ModelError
from dsdq.models.memory import free_on
from dsdq.policies.paging import BLOCK, blocks_for

SHARE_OF_FREE = {"cpu": 0.5, "cuda": 0.8}
"""Of what is free beside the weights. On a CPU the rest is for everything else that runs there. On a GPU it is for what
a step computes in between (for 640 tokens of an 8B Llama: logits in two dtypes 0.5 GB, the judge's numbers 0.25 GB,
attention's partial results 0.01 GB for each 512 tokens of the longest text) and for graphs, which keep what the largest
of them computed, about as much again."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KvMemory:
    """A bound of the KV cache: in tokens, in bytes, or in both; in neither, a share of what the device has free.

    That share is not more than ``sessions`` whole contexts, if that is given.
    """

    tokens: int | None = None
    bytes: int | None = None
    sessions: int | None = None


def parse_bytes(text: str) -> int:
    """Return the bytes that ``"4GiB"``, ``"500MB"`` or plain digits mean.

    Raises:
        ConfigError: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        msg = f"expected a size such as 4GiB, 500MB or 1073741824, got {text!r}"
        raise ConfigError(msg)
    number, unit = match.groups()
    return round(float(number) * _UNITS[(unit or "").lower()])


def blocks_within(memory: KvMemory, block_bytes: Mapping[torch.device, int], context_tokens: int) -> int:
    """Return how many blocks the KV cache has; one takes ``block_bytes`` on each of the devices.

    Raises:
        ModelError: fewer than two fit; the message has the numbers.
    """
    bounds, each = [], sum(block_bytes.values())
    if memory.tokens is not None:
        bounds.append(memory.tokens // BLOCK)
    if memory.bytes is not None:
        bounds.append(memory.bytes // each)
    if not bounds:
        bounds += [int(free_on(one) * SHARE_OF_FREE[one.type]) // part for one, part in block_bytes.items()]
        if memory.sessions is not None:
            bounds.append(max(2, memory.sessions * blocks_for(context_tokens)))
    if min(bounds) < 2:
        msg = (
            f"KV budget: expected room for at least two blocks of {BLOCK} tokens ({2 * each} bytes), "
            f"got {min(bounds) * each} bytes; give the KV cache more memory"
        )
        raise ModelError(msg)
    return min(bounds)
