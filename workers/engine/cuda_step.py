"""What the CUDA attention kernels need to know of one forward, as device tensors of a shape fixed in advance.

Pure bookkeeping without kernels: it runs, and is tested, on any machine. Everything travels to the device in one copy,
and a captured graph is fed by writing over that one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dsdq.errors import ModelError
from dsdq.policies.paging import BLOCK

NOWHERE = -1  # slot and position of a padding token: nothing is stored for it, and it attends to nothing
_TILE_FIELDS = 3  # row, packed index of the first query, number of queries


@dataclass(frozen=True, slots=True)
class Span:
    """What one row feeds: ``count`` tokens at the positions ``start, start + 1, …``.

    ``blocks`` are the ids of the KV blocks that hold the row's positions ``0 .. 63``, ``64 .. 127`` and so on. A row
    may feed no tokens; it is then padding.
    """

    start: int
    count: int
    blocks: Sequence[int]

    @property
    def end(self) -> int:
        """Return the position behind the last one fed."""
        return self.start + self.count


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

    @property
    def splits(self) -> int:
        """Return how many splits the longest possible row has."""
        return -(-self.tables.shape[1] // self.tiling.split_blocks)


def build_step(
    spans: Sequence[Span],
    device: torch.device | str,
    *,
    tokens: int | None = None,
    rows: int | None = None,
    blocks: int | None = None,
    tiling: Tiling | None = None,
) -> Step:
    """Lay out the packed tokens of ``spans``, in their order, padded to a shape.

    Args:
        spans: one for each row.
        device: where the step is wanted.
        tokens: packed tokens with padding; as many as there are by default.
        rows: rows with padding; as many as there are by default.
        blocks: width of the block tables; that of the longest row by default.
        tiling: how attention is cut; the default one if left out.

    Raises:
        ModelError: the spans do not fit the shape, or a span's blocks do not hold its positions.
    """
    tiling = tiling or Tiling()
    _check(spans)
    fed = sum(span.count for span in spans)
    longest = max((-(-span.end // BLOCK) for span in spans if span.count), default=1)
    tokens, rows, blocks = tokens or fed, rows or len(spans), blocks or longest
    if fed > tokens or len(spans) > rows or longest > blocks:
        msg = (
            f"step: expected at most {tokens} tokens, {rows} rows and {blocks} blocks a row, "
            f"got {fed}, {len(spans)} and {longest}; choose a larger bucket"
        )
        raise ModelError(msg)
    size = 3 * tokens + _TILE_FIELDS * tiling.tiles(tokens, rows) + rows * blocks
    packed = torch.zeros(size, dtype=torch.int32)
    _fill(Step.over(packed, tokens, rows, blocks, tiling), spans)
    return Step.over(packed.to(device), tokens, rows, blocks, tiling)


def _check(spans: Sequence[Span]) -> None:
    for number, span in enumerate(spans):
        if span.start < 0 or span.count < 0 or (span.count and span.end > len(span.blocks) * BLOCK):
            msg = (
                f"row {number}: expected positions within its {len(span.blocks)} blocks of {BLOCK}, "
                f"got {span.count} from {span.start}"
            )
            raise ModelError(msg)


def _fill(step: Step, spans: Sequence[Span]) -> None:
    slots, positions = step.slots.numpy(), step.positions.numpy()
    slots.fill(NOWHERE)
    positions.fill(NOWHERE)
    tiles: list[tuple[int, int, int]] = []
    first = 0
    for row, span in enumerate(spans):
        if not span.count:
            continue
        table: npt.NDArray[np.int64] = np.asarray(span.blocks[: -(-span.end // BLOCK)], dtype=np.int64)
        step.tables.numpy()[row, : len(table)] = table
        fed = np.arange(span.start, span.end)
        positions[first : first + span.count] = fed
        slots[first : first + span.count] = table[fed // BLOCK] * BLOCK + fed % BLOCK
        width = step.tiling.tile_tokens
        tiles += [(row, first + offset, min(width, span.count - offset)) for offset in range(0, span.count, width)]
        first += span.count
    if tiles:
        step.tiles.numpy()[: len(tiles)] = tiles
