"""How a kind of device runs the target over packed rows; an engine checks the rows and sizes the KV cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from dsdq.errors import ModelError
from dsdq.models.target import Target
from workers.engine.attention import Attention
from workers.engine.rows import Packed


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator chooses of forwards on a GPU. On the CPU nothing of it changes anything.

    ``deterministic`` gives a token the same logits whatever is computed with it and however its text was cut, as the
    CPU always does. ``graphs`` replays CUDA graphs for forwards of up to ``step_tokens`` tokens, the most that a step
    is expected to feed.
    """

    deterministic: bool = False
    graphs: bool = True
    step_tokens: int = 640


class Forward(Protocol):
    """The target on a kind of device, with its KV cache. Made once for a model, which it changes in place."""

    @property
    def pool(self) -> Attention:
        """Return the KV cache."""
        ...

    @property
    def numerics(self) -> tuple[str, ...]:
        """Return the names of what decides a logit's bits here, beside what the target's own ``numerics`` name."""
        ...

    def resize(self, blocks: int) -> None:
        """Forget the KV cache; it has ``blocks`` blocks from now on.

        Raises:
            ModelError: the device has not the memory.
        """
        ...

    def run(self, packed: Packed) -> torch.Tensor:
        """Return the wanted logits, float32 ``[kept, vocab]``; the next forward may write over them."""
        ...


def forward_on_its_device(target: Target, options: Options) -> Forward:
    """Return what runs ``target`` where its weights are.

    Raises:
        ModelError: a package is missing for that, or the options do not go with the model.
    """
    if target.device.type != "cuda":
        from workers.engine.cpu_forward import CpuForward  # noqa: PLC0415 - a machine with a GPU needs no numba

        return CpuForward(target)
    try:
        from workers.engine.cuda_forward import CudaForward  # noqa: PLC0415 - a machine without a GPU needs no triton
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "triton":
            raise
        msg = "device cuda: needs triton, which is not installed; torch's builds for CUDA on Linux bring it"
        raise ModelError(msg) from error
    return CudaForward(target, options)
