"""The target on the CPU: attention and, in float32, linear layers that give a row the same bits in any company."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsdq.models.target import Target
from workers.engine import attention, linears
from workers.engine.cpu_attention import CpuAttention
from workers.engine.loose_linears import LooseLinears
from workers.engine.rows import Packed


class CpuForward:
    """See :class:`workers.engine.forward.Forward`."""

    numerics: tuple[str, ...] = ()

    def __init__(self, target: Target) -> None:
        """Replace attention and linear layers in ``target``'s model."""
        self.pool = CpuAttention(0)
        self._model = target.model
        self._padding, self._around = _prepare(self._model)

    def resize(self, blocks: int) -> None:
        """Forget the KV cache; it has ``blocks`` blocks from now on, which take no memory until they are written."""
        self.pool.resize(blocks)

    def run(self, packed: Packed) -> torch.Tensor:
        """Return the wanted logits, float32 ``[kept, vocab]``."""
        padding = self._padding.rows(packed.tokens) - packed.tokens
        # A prefill that wants no logits still runs; the model needs one position for its head.
        keep = packed.keep if len(packed.keep) else np.array([packed.tokens - 1])
        with self._around:
            output = self._model(
                input_ids=_padded(packed.ids, padding)[None],
                position_ids=_padded(packed.positions, padding)[None],
                use_cache=False,
                logits_to_keep=_padded(keep, self._padding.fewest - len(keep)),
                pool=self.pool,
                step=self.pool.step(packed, padding),
            )
        logits: torch.Tensor = output.logits[0, : len(packed.keep)].float()
        return logits


def _prepare(model: Any) -> tuple[linears.Padding, AbstractContextManager[object]]:
    """Replace attention and, in float32, linear layers.

    Returns how rows must be padded, and what each forward runs in.
    """
    model.set_attn_implementation(attention.NAME)
    mixture = linears.has_experts(model)
    if next(model.parameters()).dtype is not torch.float32:
        return linears.Padding.of((), fewest=1), nullcontext()
    widths = linears.activation_widths(model)
    if not (_packing_works() and linears.pack(model)):
        return linears.Padding.of(widths, fewest=linears.fewest_rows()), nullcontext()
    if mixture:
        model.set_experts_implementation("eager")  # the others batch experts in shapes that depend on neighbours
    return linears.Padding.of(widths, fewest=1), LooseLinears() if mixture else nullcontext()


_packing_works = lru_cache(maxsize=1)(linears.packing_works)


def _padded(values: NDArray[np.int64], padding: int) -> torch.Tensor:
    """Repeat the last value."""
    whole = np.concatenate([values, np.repeat(values[-1:], padding)]) if padding > 0 else values
    return torch.from_numpy(whole)
