"""The KV pool of a GPU, or of all GPUs that a model's layers are spread over: each layer's blocks lie where it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from dsdq.errors import ModelError
from dsdq.policies.paging import BLOCK
from workers.engine import cuda_attention
from workers.engine.attention import Scoring
from workers.engine.cuda_step import Step, Tiling


@dataclass(frozen=True, slots=True)
class Steps:
    """One forward's step, copied once to each device that has layers."""

    step: Step
    _copies: dict[torch.device, Step] = field(default_factory=dict)

    def on(self, device: torch.device) -> Step:
        """Return the step on ``device``."""
        copy = self._copies.get(device)
        if copy is None:
            copy = self._copies[device] = self.step.to(device)
        return copy


class CudaAttention:
    """Keys and values of every layer in the model's own dtype, ``[blocks, 64, kv_heads, dim]``, and attention on them.

    Memory is reserved as soon as shapes are known, for all blocks: what a forward would lack later is missed at once.
    """

    def __init__(self, blocks: int, tiling: Tiling | None = None) -> None:
        """Reserve nothing yet: shapes are known at a layer's first write. ``blocks`` is what each layer will have."""
        self.blocks = blocks
        self.tiling = tiling or Tiling()
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def layers(self) -> int:
        """Return how many layers have written."""
        return len(self._layers)

    @property
    def block_bytes(self) -> Mapping[torch.device, int]:
        """Return the bytes of one block on each device, in all layers that have written."""
        bytes_: dict[torch.device, int] = {}
        for pools in self._layers.values():
            for pool in pools:
                block = pool.shape[1:].numel() * pool.element_size()
                bytes_[pool.device] = bytes_.get(pool.device, 0) + block
        return bytes_

    def resize(self, blocks: int) -> None:
        """Forget everything; each layer that has written has ``blocks`` blocks from now on.

        Raises:
            ModelError: a device has not the memory.
        """
        self.blocks = blocks
        # Stand for shape, dtype and device without holding the memory, which is needed again.
        empty = {layer: (keys[:0].clone(), values[:0].clone()) for layer, (keys, values) in self._layers.items()}
        self._layers.clear()
        self._layers = {layer: (self._like(keys), self._like(values)) for layer, (keys, values) in empty.items()}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        step: Steps,
        scoring: Scoring,
    ) -> torch.Tensor:
        """Store ``key`` and ``value`` ``[T, kv_heads, dim]``; attend from ``query`` ``[T, heads, dim]``.

        Returns:
            ``[T, heads, value_dim]`` in the dtype of ``query``; zeros for padding.

        Raises:
            ModelError: the tensors are of types or shapes that do not belong together.
        """
        if layer not in self._layers:
            self._layers[layer] = self._like(key), self._like(value)
        keys, values = self._layers[layer]
        with torch.cuda.device_of(query):  # type: ignore[no-untyped-call] # where Triton launches
            return cuda_attention.attend(
                query,
                key,
                value,
                keys,
                values,
                step.on(query.device),
                scale=scoring.scale,
                window=scoring.window,
                softcap=scoring.softcap,
                sinks=scoring.sinks,
            )

    def _like(self, part: torch.Tensor) -> torch.Tensor:
        """Return a pool, not initialised, for what is ``[..., heads, dim]`` like ``part``."""
        try:
            # Kernels never read a place before it is written.
            return part.new_empty((self.blocks, BLOCK, *part.shape[-2:]))
        except torch.OutOfMemoryError as error:
            msg = f"KV cache of {self.blocks * BLOCK} tokens: not enough memory on {part.device}; give it less"
            raise ModelError(msg) from error
