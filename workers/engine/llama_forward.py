"""A small Llama on the CPU without a framework: the draft model of a verifier that drafts itself.

A model of a million parameters takes a fifth of a framework's time per layer. Pages and attention are the CPU engine's
own; its products are numpy's, whose bits depend on the number of rows: good for drafts, not for a target.
"""

from __future__ import annotations

import numpy as np
import torch

from dsdq.models.llama import LlamaWeights, is_plain
from dsdq.models.target import Target
from dsdq.threads import one_blas_thread
from workers.engine.attention import Scoring
from workers.engine.cpu_attention import CpuAttention
from workers.engine.rows import Packed

MOST_PARAMETERS = 20_000_000
"""Larger matrices are worth more than one thread."""

_PLAIN = Scoring(scale=1.0)  # the weights scale queries already


def serves(target: Target) -> bool:
    """Say whether ``target`` is a plain Llama on the CPU, and small enough to be faster here."""
    model = target.model
    small = sum(parameter.numel() for parameter in model.parameters()) <= MOST_PARAMETERS
    return small and target.device.type == "cpu" and is_plain(model.config.to_dict())


class LlamaForward:
    """See :class:`workers.engine.forward.Forward`."""

    numerics: tuple[str, ...] = ("numpy",)

    def __init__(self, target: Target) -> None:
        """Take over the weights of a model that :func:`serves` accepts."""
        weights = {name: weight.float().numpy() for name, weight in target.model.state_dict().items()}
        self.pool = CpuAttention(0, threads=1)  # to wake another takes longer than what it would do
        self._weights = LlamaWeights.fold(target.model.config.to_dict(), weights)

    def resize(self, blocks: int) -> None:
        """Forget the KV cache; it has ``blocks`` blocks from now on, which take no memory until they are written."""
        self.pool.resize(blocks)

    def run(self, packed: Packed) -> torch.Tensor:
        """Return the wanted logits, float32 ``[kept, vocab]``."""
        weights, step = self._weights, self.pool.step(packed, 0)
        rotation = weights.rotations[packed.positions][:, None]
        with one_blas_thread():
            x = weights.embedding[packed.ids]
            for number, layer in enumerate(weights.layers):
                mixed = weights.mixed(layer, weights.normed(x), rotation)
                read = self.pool.attend_arrays(number, *mixed, step, _PLAIN)
                x = weights.fed_forward(layer, x + read.reshape(len(x), -1) @ layer.out)
            logits = weights.normed(x[packed.keep]) @ weights.head
        return torch.from_numpy(np.ascontiguousarray(logits))
