"""What the CUDA attention kernels need to know of one forward, as device tensors of a shape fixed in advance.

Pure bookkeeping without kernels: it runs, and is tested, on any machine. Everything travels to the device in one copy,
and a captured graph is fed by writing over that one tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dsdq.errors import ModelError
from dsdq.policies.paging import BLOCK
from workers.engine.rows import Packed

NOWHERE = -1  # slot and position of a padding token: nothing is stored for it, and it attends to nothing
_TILE_FIELDS = 3  # row, packed index of the first query, number of queries


@dataclass(frozen=True, slots=True)
class Tiling:
    """How attention is cut into programs. An engine keeps one for its life: another tiling rounds otherwise.

    ``tile_tokens`` neighbouring queries of a row share what they read of the cache: 16 hold a whole window of drafts,
    64 suit long prompts. ``split_blocks`` blocks of keys are read by one program; partial results take
    ``4 · tokens · heads · (value_dim + 2)`` bytes for each split of the longest table.
    """

    tile_tokens: int = 16
    split_blocks: int = 8

    @property
    def split_tokens(self) -> int:
        """Return the positions of one split."""
        return self.split_blocks * BLOCK

    def tiles(self, tokens: int, rows: int) -> int:
        """Return how many tiles suffice for ``tokens`` queries however they are spread over ``rows``."""
        return tokens // self.tile_tokens + rows


@dataclass(frozen=True, slots=True)
class Step:
    """One forward's layout; the tensors are views of ``packed``, an int32 vector on the device.

    ``slots`` ``[T]`` int64 is where each token's key and value go (block · 64 + place), ``positions`` ``[T]`` int32 its
    absolute position; both are -1 for padding. ``tiles`` ``[tiles, 3]`` int32 lists a tile's row, its first query's
    packed index and its number of queries, 0 for padding. ``tables`` ``[rows, blocks]`` int32 are the block ids.
    """

    packed: torch.Tensor
    slots: torch.Tensor
    positions: torch.Tensor
    tiles: torch.Tensor
    tables: torch.Tensor
    tiling: Tiling

    @classmethod
    def over(cls, packed: torch.Tensor, tokens: int, rows: int, blocks: int, tiling: Tiling) -> Step:
        """Read ``packed`` as a step of this shape, without copying.

        Raises:
            ModelError: it has not the length of such a step.
        """
        tiles = tiling.tiles(tokens, rows)
        sizes = (2 * tokens, tokens, _TILE_FIELDS * tiles, rows * blocks)
        if packed.numel() != sum(sizes):
            shape = f"{tokens} tokens and {rows} rows of {blocks} blocks"
            msg = f"step of {shape}: expected {sum(sizes)} ints, got {packed.numel()}"
            raise ModelError(msg)
        # int64 slots come first, where they are aligned.
        slots, positions, tile_fields, tables = packed.split_with_sizes(sizes)
        return cls(
            packed=packed,
            slots=slots.view(torch.int64),
            positions=positions,
            tiles=tile_fields.view(tiles, _TILE_FIELDS),
            tables=tables.view(rows, blocks),
            tiling=tiling,
        )

    def to(self, device: torch.device) -> Step:
        """Return the step on another device; itself where it is there already."""
        if self.packed.device == device:
            return self
        rows, blocks = self.tables.shape
        return Step.over(self.packed.to(device), len(self.positions), rows, blocks, self.tiling)

    @property
    def splits(self) -> int:
        """Return how many splits the longest possible row has."""
        return -(-self.tables.shape[1] // self.tiling.split_blocks)


def build_step(
    packed: Packed,
    device: torch.device | str,
    *,
    tokens: int | None = None,
    rows: int | None = None,
    blocks: int | None = None,
    tiling: Tiling | None = None,
) -> Step:
    """Lay out a forward's tokens, in their order, padded to a shape.

    Args:
        packed: the forward; every row's blocks hold its positions, as an engine has checked.
        device: where the step is wanted.
        tokens: packed tokens with padding; as many as there are by default.
        rows: rows with padding; as many as there are by default.
        blocks: width of the block tables; that of the longest text by default.
        tiling: how attention is cut; the default one if left out.

    Raises:
        ModelError: the forward does not fit the shape.
    """
    tiling = tiling or Tiling()
    fed, longest = len(packed.counts), blocks_used(packed)
    tokens, rows, blocks = tokens or packed.tokens, rows or fed, blocks or longest
    if packed.tokens > tokens or fed > rows or longest > blocks:
        msg = (
            f"step: expected at most {tokens} tokens, {rows} rows and {blocks} blocks a row, "
            f"got {packed.tokens}, {fed} and {longest}; choose a larger bucket"
        )
        raise ModelError(msg)
    size = 3 * tokens + _TILE_FIELDS * tiling.tiles(tokens, rows) + rows * blocks
    host = torch.zeros(size, dtype=torch.int32)
    _fill(Step.over(host, tokens, rows, blocks, tiling), packed)
    return Step.over(host.to(device), tokens, rows, blocks, tiling)


def blocks_used(packed: Packed) -> int:
    """Return how many blocks the longest text has, which may be fewer than are held for it; at least one."""
    return max(1, -(-int((packed.starts + packed.counts).max(initial=0)) // BLOCK))


def _fill(step: Step, packed: Packed) -> None:
    slots, positions, tables = step.slots.numpy(), step.positions.numpy(), step.tables.numpy()
    slots.fill(NOWHERE)
    positions.fill(NOWHERE)
    slots[: packed.tokens] = packed.slots
    positions[: packed.tokens] = packed.positions
    used = packed.tables[:, : tables.shape[1]]
    tables[: used.shape[0], : used.shape[1]] = used
    tiles = _tiles(packed, step.tiling.tile_tokens)
    step.tiles.numpy()[: len(tiles)] = tiles


def _tiles(packed: Packed, width: int) -> npt.NDArray[np.int64]:
    """Return pieces of rows of at most ``width`` tokens, ``[n, 3]``: row, packed index of the first, number."""
    pieces = -(-packed.counts // width)
    row = np.repeat(np.arange(len(pieces)), pieces)
    before = (np.arange(len(row)) - (np.cumsum(pieces) - pieces)[row]) * width  # tokens of its row before a piece
    first = (np.cumsum(packed.counts) - packed.counts)[row] + before
    return np.stack([row, first, np.minimum(packed.counts[row] - before, width)], axis=1)
