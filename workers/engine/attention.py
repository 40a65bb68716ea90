"""Attention over the KV pool, in tiles whose shape depends on a token's absolute position alone.

A query at position p sits in slot ``p % TILE`` of tile ``p // TILE``, and its tile reads the session's first
``BLOCK * (p // BLOCK + 1)`` keys. Neither a row's neighbours nor how its text was cut into windows, chunks and
rebuilds can change the shape of the kernel call that computes it, hence not its bits. Slots of a tile that no token of
the row fills, and keys that are not yet written, are computed and never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from dsdq.errors import ModelError
from dsdq.models.target import TILE
from workers.engine.kv import BLOCK, Pool

NAME = "dsdq_tiled"
TILES_PER_BLOCK = BLOCK // TILE


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tiles of one row that read the same keys: one kernel call.

    ``slot`` counts tile slots from the step's start, ``tiles`` how many there are, ``first`` is the first tile's index
    within its block; the keys are ``[base, base + length)`` of the pool.
    """

    slot: int
    tiles: int
    first: int
    base: int
    length: int


@dataclass(slots=True)
class Step:
    """One forward: where tokens are written, and how queries are tiled. Built once, used by every layer.

    ``write_index`` ``[T]`` is the pool slot and ``tile_index`` ``[T]`` the tile slot of each packed token. Padding
    tokens are copies of the last token: they write what it writes.
    """

    pool: Pool
    masks: Masks
    write_index: torch.Tensor
    tile_index: torch.Tensor
    slots: int
    runs: Sequence[Run]
    _buffers: dict[torch.Size, torch.Tensor] = field(default_factory=dict)
    _elsewhere: dict[torch.device, Step] = field(default_factory=dict)

    def on(self, device: torch.device) -> Step:
        """Return this step with its indices on ``device``: a model's layers may lie on several."""
        if device == self.write_index.device:
            return self
        if device not in self._elsewhere:
            write, tile = self.write_index.to(device), self.tile_index.to(device)
            self._elsewhere[device] = replace(self, write_index=write, tile_index=tile, _buffers={}, _elsewhere={})
        return self._elsewhere[device]

    def tiled(self, queries: torch.Tensor) -> torch.Tensor:
        """Spread ``[T, heads, dim]`` queries over ``[slots, heads, dim]``; slots without a token hold zeros."""
        buffer = self._buffers.get(queries.shape)
        if buffer is None:
            buffer = self._buffers[queries.shape] = queries.new_zeros((self.slots, *queries.shape[1:]))
        return buffer.index_copy_(0, self.tile_index, queries)


class Masks:
    """Additive causal masks, as views of one template per window width.

    Counted from its end, the mask of a tile depends only on the tile's place within its block. A template therefore is
    ``[TILES_PER_BLOCK, TILE, longest]``, and the mask for a run is its last ``length`` columns.
    """

    def __init__(self) -> None:
        """Begin without any template."""
        self._templates: dict[tuple[int | None, int, torch.device], torch.Tensor] = {}

    def view(self, run: Run, window: int | None, groups: int, like: torch.Tensor) -> torch.Tensor:
        """Return ``[tiles, 1, groups * TILE, length]``: 0 where a query may look, minus infinity elsewhere."""
        key = (window, groups, like.device)
        template = self._templates.get(key)
        if template is None or template.shape[-1] < run.length:
            longest = max(run.length, 2 * template.shape[-1] if template is not None else 16 * BLOCK)
            template = self._templates[key] = _template(window, groups, longest, like)
        return template[run.first : run.first + run.tiles, None, :, -run.length :]


def _template(window: int | None, groups: int, longest: int, like: torch.Tensor) -> torch.Tensor:
    keys = torch.arange(longest, device=like.device)
    queries = torch.arange(longest - BLOCK, longest, device=like.device).view(TILES_PER_BLOCK, TILE, 1)
    sees = keys <= queries
    if window is not None:
        sees &= keys > queries - window
    mask = torch.zeros(sees.shape, dtype=like.dtype, device=like.device).masked_fill_(~sees, -torch.inf)
    return mask.repeat(1, groups, 1)


def attend(  # noqa: PLR0913 - the signature is transformers' own
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    *,
    spec: Step,
    **extra: Any,  # noqa: ANN401 - whatever else a model passes
) -> tuple[torch.Tensor, None]:
    """Attend from the packed ``query`` ``[1, heads, T, dim]`` to the pool, after storing ``key`` and ``value`` in it.

    Returns:
        ``[1, T, heads, value_dim]``, and no attention weights.

    Raises:
        ModelError: the model asks for something that this function would leave out.
    """
    if attention_mask is not None or extra.get("s_aux") is not None or extra.get("position_bias") is not None:
        msg = f"{type(module).__name__}: attention with its own mask, bias or sinks is not supported"
        raise ModelError(msg)
    spec = spec.on(query.device)
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    keys, values = spec.pool.write(layer, spec.write_index, key[0].transpose(0, 1), value[0].transpose(0, 1))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    tiles = spec.tiled(query[0].transpose(0, 1))
    outputs = []
    for run in spec.runs:
        packed = _pack(tiles[run.slot : run.slot + run.tiles * TILE], keys.shape[1])
        mask = spec.masks.view(run, sliding_window, packed.shape[2] // TILE, query)
        run_keys = keys[run.base : run.base + run.length].transpose(0, 1)
        run_values = values[run.base : run.base + run.length].transpose(0, 1)
        if softcap is None:
            outputs.append(_unpack(_fused(packed, run_keys, run_values, mask, scale)))
        else:
            outputs.append(_unpack(_softcapped(packed, run_keys, run_values, mask, scale, softcap)))
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return output.index_select(0, spec.tile_index)[None], None


def _pack(slots: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Turn ``[tiles * TILE, heads, dim]`` into ``[tiles, kv_heads, groups * TILE, dim]``: grouped heads share keys."""
    heads, dim = slots.shape[1:]
    grouped = slots.view(-1, TILE, kv_heads, heads // kv_heads, dim).permute(0, 2, 3, 1, 4)
    return grouped.reshape(-1, kv_heads, heads // kv_heads * TILE, dim)


def _unpack(packed: torch.Tensor) -> torch.Tensor:
    """Turn ``[tiles, kv_heads, groups * TILE, dim]`` back into ``[tiles * TILE, heads, dim]``."""
    tiles, kv_heads, width, dim = packed.shape
    grouped = packed.view(tiles, kv_heads, width // TILE, TILE, dim).permute(0, 3, 1, 2, 4)
    return grouped.reshape(tiles * TILE, kv_heads * (width // TILE), dim)


def _fused(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    tiles = queries.shape[0]
    shared = (tiles, -1, -1, -1)
    return scaled_dot_product_attention(
        queries, keys[None].expand(shared), values[None].expand(shared), attn_mask=mask, scale=scale
    )


def _softcapped(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float, softcap: float
) -> torch.Tensor:
    """Attend tile by tile with scores squashed to ±``softcap`` (Gemma 2, arXiv 2408.00118).

    One tile at a time, because a batched matrix product may choose its kernel by the number of tiles.
    """
    transposed = keys.transpose(1, 2)
    outputs = []
    for query, bias in zip(queries, mask, strict=True):
        scores = torch.tanh(torch.bmm(query, transposed) * (scale / softcap)) * softcap
        outputs.append(torch.bmm(torch.softmax(scores + bias, dim=-1, dtype=torch.float32).to(values.dtype), values))
    return torch.stack(outputs)


AttentionInterface.register(NAME, attend)
