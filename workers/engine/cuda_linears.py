"""Linear layers that give a row the same bits whatever other rows are computed with it (CUDA).

cuBLAS chooses its kernel, and how it splits sums, by the shape of a product. Here every product has one shape: rows are
padded to whole tiles, and each tile is a product of its own, whose inputs are aligned alike. That costs reading the
weights once for each tile, so a batch of many tiles is slower than one product; up to one tile it costs nothing.

It rests on two things that hold for cuBLAS today and are tested where there is a GPU: the same shape takes the same
kernel, and a row's sums do not depend on where in the tile it stands.
"""

from __future__ import annotations

from typing import TypeGuard, TypeVar

import torch
from torch import nn
from torch.nn.functional import pad
from transformers.pytorch_utils import Conv1D

TILE_ROWS = 64
_ALIGNED_BYTES = 256  # of every allocation of torch's; cuBLAS picks kernels by alignment too, up to 16 bytes

Layer = TypeVar("Layer", bound=nn.Module)


class FixedTileLinear(nn.Module):
    """``x @ weight.T + bias`` in products of ``TILE_ROWS`` rows each; for inference, without gradients.

    ``weight`` is ``[out, in]`` and ``bias`` ``[out]``; both are kept as they are, not copied.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Keep the weights."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)
        self.weight: torch.Tensor
        self.bias: torch.Tensor | None

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[..., out]`` for ``[..., in]``."""
        rows = x.reshape(-1, self.in_features)
        tiles = _whole_tiles(rows)
        output = tiles.new_empty((len(tiles), self.out_features))
        for start in range(0, len(tiles), TILE_ROWS):
            tile = slice(start, start + TILE_ROWS)
            torch.mm(tiles[tile], self.weight.t(), out=output[tile])
        if self.bias is not None:
            output += self.bias
        return output[: len(rows)].view(*x.shape[:-1], self.out_features)


def _whole_tiles(rows: torch.Tensor) -> torch.Tensor:
    """Return ``rows`` with zeros up to whole tiles, dense and aligned; a copy only where one is needed."""
    padding = -len(rows) % TILE_ROWS
    if padding:
        return pad(rows, (0, 0, 0, padding))
    dense = rows.contiguous()
    return dense.clone() if dense.data_ptr() % _ALIGNED_BYTES else dense


@torch.no_grad()
def fix_tiles(model: nn.Module) -> bool:
    """Replace linear layers of ``model`` (``nn.Linear`` and GPT-2's ``Conv1D``) by fixed tiles, in place.

    Layers whose weights are not plain matrices stay as they are: quantised ones, and those of which each rank of a
    tensor-parallel model has a share. Returns whether there was none.
    """
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if _is_plain(layer, nn.Linear):
                setattr(parent, name, FixedTileLinear(layer.weight, layer.bias))
            elif _is_plain(layer, Conv1D):
                setattr(parent, name, FixedTileLinear(layer.weight.t(), layer.bias))
    return not any(isinstance(layer, nn.Linear | Conv1D) for layer in model.modules())


def _is_plain(layer: nn.Module, kind: type[Layer]) -> TypeGuard[Layer]:
    return type(layer) is kind and type(layer.weight) is nn.Parameter
