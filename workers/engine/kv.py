"""The KV cache: one flat pool of token slots per layer, of which each session holds one contiguous extent."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsdq.errors import ModelError

BLOCK = 64  # attention reads whole blocks of this many tokens


class EngineFullError(ModelError):
    """The KV cache has no room for a session now, or could never have it."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Token slots ``[start, start + tokens)`` of the pool; both are multiples of the block."""

    start: int
    tokens: int

    @property
    def end(self) -> int:
        """Return the first slot behind the extent."""
        return self.start + self.tokens


class Extents:
    """Which session holds which slots: first fit over a fixed number of tokens. Pure bookkeeping, no memory."""

    def __init__(self, budget_tokens: int) -> None:
        """Begin with every slot free; a budget that is no multiple of the block is rounded down."""
        self.budget_tokens = budget_tokens // BLOCK * BLOCK
        self._held: dict[str, Extent] = {}

    @property
    def used_tokens(self) -> int:
        """Return the slots that sessions hold."""
        return sum(extent.tokens for extent in self._held.values())

    def __getitem__(self, session: str) -> Extent:
        """Return the extent of a session.

        Raises:
            ModelError: the session was never admitted, or is released.
        """
        extent = self._held.get(session)
        if extent is None:
            msg = f"session {session!r}: not admitted; admit it before its first row"
            raise ModelError(msg)
        return extent

    def take(self, session: str, tokens: int) -> Extent:
        """Give the session the lowest gap that holds ``tokens``, rounded up to whole blocks.

        Raises:
            EngineFullError: there is no such gap; the message has the numbers.
            ModelError: the session holds an extent already, or ``tokens`` is not positive.
        """
        if session in self._held or tokens < 1:
            msg = f"session {session!r}: expected a new session and at least one token, got {tokens} tokens"
            raise ModelError(msg)
        size = -(-tokens // BLOCK) * BLOCK
        start = 0
        for extent in sorted(self._held.values(), key=lambda held: held.start):
            if extent.start - start >= size:
                break
            start = extent.end
        if start + size > self.budget_tokens:
            raise EngineFullError(self._no_room(session, size))
        self._held[session] = Extent(start, size)
        return self._held[session]

    def give_back(self, session: str) -> None:
        """Free what the session holds; a session that holds nothing is no error."""
        self._held.pop(session, None)

    def _no_room(self, session: str, size: int) -> str:
        if size > self.budget_tokens:
            return (
                f"session {session!r}: needs {size} tokens of KV cache, the verifier has {self.budget_tokens} in all; "
                "ask for fewer tokens, or start the verifier with a larger KV budget"
            )
        return (
            f"session {session!r}: needs {size} contiguous tokens of KV cache, "
            f"{self.budget_tokens - self.used_tokens} of {self.budget_tokens} are free; come back when a session ends"
        )


class Pool:
    """Keys and values of every layer: ``[slots, kv_heads, head_dim]`` each, allocated at a layer's first write.

    Memory is reserved, not touched: an extent is zeroed when a session is admitted, so that what attention reads and
    masks is always finite, and never another tenant's.
    """

    def __init__(self, budget_tokens: int) -> None:
        """Reserve nothing yet: shapes are known at the first write."""
        self._slots = budget_tokens
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def write(
        self, layer: int, index: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store ``[T, kv_heads, head_dim]`` keys and values at the slots ``index`` ``[T]``; return the layer's pool."""
        held = self._layers.get(layer)
        if held is None:
            held = self._layers[layer] = (self._reserve(keys), self._reserve(values))
        held[0].index_copy_(0, index, keys)
        held[1].index_copy_(0, index, values)
        return held

    def clear(self, extent: Extent) -> None:
        """Zero the slots of an extent in every layer."""
        for pools in self._layers.values():
            for pool in pools:
                pool[extent.start : extent.end].zero_()

    @property
    def layers(self) -> int:
        """Return how many layers have written."""
        return len(self._layers)

    def _reserve(self, like: torch.Tensor) -> torch.Tensor:
        return torch.empty((self._slots, *like.shape[1:]), dtype=like.dtype, device=like.device)
