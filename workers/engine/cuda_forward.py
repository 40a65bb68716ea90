"""The target on a GPU: eagerly, or replayed from CUDA graphs of a few padded shapes; fast, or the same bits always.

A small forward of a large model takes less time than Python takes to launch it, so what recurs is captured once. In
deterministic mode linear layers compute tiles of fixed size, and the rows of a forward, and those that logits are
wanted of, are padded to whole tiles: reductions, as in norms, choose their layout by the number of rows where there are
few. Attention needs nothing more (see :mod:`workers.engine.cuda_attention`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.tensor import DTensor
from triton.errors import TritonError

from dsdq.errors import ModelError
from dsdq.models.target import Target
from dsdq.policies.paging import blocks_for
from workers.engine import attention
from workers.engine.cuda_graphs import Bucket, Graphs, Inputs, Replay, buckets, whole
from workers.engine.cuda_linears import TILE_ROWS, fix_tiles
from workers.engine.cuda_pool import CudaAttention, Steps
from workers.engine.cuda_step import Step, Tiling, blocks_used, build_step
from workers.engine.forward import Options
from workers.engine.linears import has_experts
from workers.engine.rows import Packed

Capture = Callable[[Callable[[], torch.Tensor]], tuple[Replay, torch.Tensor]]


class CudaForward:
    """See :class:`workers.engine.forward.Forward`."""

    def __init__(self, target: Target, options: Options, capture: Capture | None = None) -> None:
        """Replace attention in ``target``'s model, and linear layers if forwards are to be deterministic.

        ``capture`` is what :class:`workers.engine.cuda_graphs.Graphs` takes.

        Raises:
            ModelError: forwards of this model cannot be deterministic.
        """
        self.pool = CudaAttention(0)
        self.numerics = ("fixed",) if options.deterministic else ()
        self._model = target.model
        self._device, self._output_device = target.device, target.output_device  # read before layers are replaced
        self._name = target.name
        self._capture = capture
        self._tile = TILE_ROWS if options.deterministic else 1
        self._buckets = self._shapes(options.step_tokens, target) if _captures(options, target) else []
        self._model.set_attn_implementation(attention.NAME)
        if options.deterministic:
            _fix(target)
        # All graphs leave their logits here: a copy of each would take a gigabyte.
        kept = max((bucket.kept for bucket in self._buckets), default=0)
        self._logits = torch.empty((kept, target.vocab_size), dtype=torch.float32, device=self._output_device)
        self._graphs = self._fresh_graphs()

    def resize(self, blocks: int) -> None:
        """Forget the KV cache, and the graphs that read it; it has ``blocks`` blocks from now on.

        Raises:
            ModelError: the device has not the memory.
        """
        self._graphs = self._fresh_graphs()
        self.pool.resize(blocks)

    def run(self, packed: Packed) -> torch.Tensor:
        """Return the wanted logits, float32 ``[kept, vocab]``; the next forward may write over them.

        Raises:
            ModelError: attention cannot be compiled for this GPU and model, or a shape cannot be captured.
        """
        need = Bucket(
            tokens=whole(packed.tokens, self._tile),
            rows=len(packed.counts),
            kept=whole(max(1, len(packed.keep)), self._tile),  # a model's head needs one position
            blocks=blocks_used(packed),
        )
        try:
            with torch.cuda.device_of(self._logits):  # type: ignore[no-untyped-call] # where graphs are captured
                logits = self._graphs(need, partial(_inputs, packed, self.pool.tiling))
        except TritonError as error:
            msg = f"model {self._name!r}: its attention cannot be computed on this GPU: {error}"
            raise ModelError(msg) from error
        return logits[: len(packed.keep)]

    def _shapes(self, step_tokens: int, target: Target) -> list[Bucket]:
        return buckets(step_tokens, blocks_for(target.context_tokens), self.pool.tiling.split_blocks, self._tile)

    def _fresh_graphs(self) -> Graphs:
        return Graphs(self._compute, self._buckets, self._device, self._capture)

    def _compute(self, shape: Bucket, inputs: Inputs) -> torch.Tensor:
        """Return float32 logits ``[kept, vocab]``."""
        step = Step.over(inputs["step"], shape.tokens, shape.rows, shape.blocks, self.pool.tiling)
        output = self._model(
            input_ids=inputs["ids"][None],
            position_ids=inputs["positions"][None],
            use_cache=False,
            logits_to_keep=inputs["keep"].to(self._output_device),
            pool=self.pool,
            step=Steps(step),
        )
        logits: torch.Tensor = output.logits[0]
        fits = shape.kept <= len(self._logits)
        return self._logits[: shape.kept].copy_(logits) if fits else logits.float()


def _inputs(packed: Packed, tiling: Tiling, shape: Bucket) -> dict[str, torch.Tensor]:
    """Lay out a forward in ``shape``; padding is the first token of a text of its own, which nobody sees."""
    step = build_step(packed, "cpu", tokens=shape.tokens, rows=shape.rows, blocks=shape.blocks, tiling=tiling)
    return {
        "ids": _padded(packed.ids, shape.tokens),
        "positions": _padded(packed.positions, shape.tokens),
        "keep": _padded(packed.keep, shape.kept),
        "step": step.packed,
    }


def _padded(values: NDArray[np.int64], length: int) -> torch.Tensor:
    return torch.from_numpy(np.pad(values, (0, length - len(values))))


def _captures(options: Options, target: Target) -> bool:
    """Say whether forwards can be captured: on one GPU, and with work that does not depend on what a router says."""
    alone = not any(isinstance(parameter, DTensor) for parameter in target.model.parameters())  # no other ranks
    return options.graphs and alone and not _spread(target) and not has_experts(target.model)


def _spread(target: Target) -> bool:
    return len({parameter.device for parameter in target.model.parameters()}) > 1


def _fix(target: Target) -> None:
    if _spread(target) or has_experts(target.model) or not fix_tiles(target.model):
        msg = (
            f"model {target.name!r}: deterministic forwards on a GPU need a model without experts, whose weights are "
            "plain matrices (not quantised, not shared among ranks) on one GPU; leave --deterministic out"
        )
        raise ModelError(msg)
