"""Attention over a paged KV pool on CUDA: three Triton kernels that store, attend split by split, and join the splits.

A program of the second kernel takes a tile of one row's neighbouring queries, all query heads that share a key head,
and one split of the positions (split-KV as in flash decoding, arXiv 2311.01282, with the online softmax of
FlashAttention, arXiv 2205.14135). Packed queries × heads fill the tensor cores even where a row feeds a single token.

What is promised: a token's result is computed from its own row's queries, keys and values, and its arithmetic depends
on its absolute position alone. Splits and blocks of keys begin at fixed positions, are met in ascending order, and a
block that a query may not see leaves its sums as they were, to the bit. So neither the neighbours of a row, nor how
many rows and how much padding there are, nor which blocks hold its cache change a bit of it. One thing more is needed
for a token to keep its bits when its row is cut into other windows: that the tensor cores compute each row of a product
alike wherever in the tile it stands. All this holds for one GPU model, one Triton and one :class:`Tiling`.

Nothing here waits for the device, and grids depend on the step's padded shape alone: calls can be captured in graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import triton

from dsdq.errors import ModelError
from dsdq.policies.paging import BLOCK
from workers.engine import cuda_kernels
from workers.engine.cuda_step import Step

# By bytes of an element: the most rows of one product (queries of a tile × heads of a group), and the most bytes in
# them. With more, compiled kernels spilled registers on sm_80 and sm_90.
_MOST_PACKED = {2: (128, 32768), 4: (32, 16384)}
_JOINED_HEADS = 8  # query heads that one program of the last kernel joins


def attend(  # noqa: PLR0913 - what attention is made of
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pool_keys: torch.Tensor,
    pool_values: torch.Tensor,
    step: Step,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Store one layer's new keys and values, then let every query attend to its row's positions up to its own.

    Args:
        query: ``[T, heads, dim]`` float32, float16 or bfloat16, positions already encoded.
        key: ``[T, kv_heads, dim]``; neighbouring heads of ``query`` share one of its heads.
        value: ``[T, kv_heads, value_dim]``.
        pool_keys: the layer's cache, contiguous ``[blocks, 64, kv_heads, dim]``, of the query's type.
        pool_values: contiguous ``[blocks, 64, kv_heads, value_dim]``, of the query's type.
        step: where tokens are stored and what they see; padding tokens are neither stored nor seen.
        scale: what products of queries and keys are multiplied by.
        window: how many positions, its own included, a query sees; all up to its own if None.
        softcap: scores are squashed to ± this (Gemma 2, arXiv 2408.00118).
        sinks: ``[heads]`` further logits in each head's denominator (gpt-oss).

    Returns:
        ``[T, heads, value_dim]`` of the query's type; zeros for padding tokens.

    Raises:
        ModelError: the tensors do not belong together.
    """
    _check(query, key, value, pool_keys, pool_values, step)
    query, key, value = _rows_dense(query), _rows_dense(key), _rows_dense(value)
    output = query.new_empty((*query.shape[:2], value.shape[2]))
    if not query.shape[0]:
        return output
    plan = _plan(query, pool_keys, pool_values, step)
    cuda_kernels.store[(query.shape[0],)](
        key, value, pool_keys, pool_values, step.slots, *key.stride()[:2], *value.stride()[:2],
        **plan.shape, heads_width=triton.next_power_of_2(key.shape[1]),
    )  # fmt: skip
    _attend(query, pool_keys, pool_values, output, step, plan, _Options(scale, window, softcap, sinks))
    return output


@dataclass(frozen=True, slots=True)
class _Options:
    """What :func:`attend` takes by name."""

    scale: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None


def _attend(
    query: torch.Tensor,
    pool_keys: torch.Tensor,
    pool_values: torch.Tensor,
    output: torch.Tensor,
    step: Step,
    plan: _Plan,
    options: _Options,
) -> None:
    """Fill ``output`` from a pool that already holds the new keys and values."""
    tokens, heads, value_dim = output.shape
    kv_heads = pool_keys.shape[2]
    # Uninitialised: the last kernel reads only what the second one wrote.
    sums = query.new_empty((step.splits, tokens, heads, value_dim), dtype=torch.float32)
    stats = query.new_empty((step.splits, tokens, heads, 2), dtype=torch.float32)
    cuda_kernels.attend_split[(step.tiles.shape[0], kv_heads * plan.chunks, step.splits)](
        query, pool_keys, pool_values, step.positions, step.tiles, step.tables, sums, stats,
        *query.stride()[:2], tokens, step.tables.shape[1], options.scale,
        **plan.shape, group=heads // kv_heads, packed=plan.packed, chunks=plan.chunks, rows=plan.rows, block=BLOCK,
        split_blocks=step.tiling.split_blocks, window=options.window, softcap=options.softcap, widen=plan.widen,
        num_warps=plan.warps, num_stages=plan.stages,
    )  # fmt: skip
    cuda_kernels.join_splits[(tokens, triton.cdiv(heads, _JOINED_HEADS))](
        sums, stats, output, step.positions, stats if options.sinks is None else options.sinks, tokens,
        heads=heads, value_dim=value_dim, value_width=plan.shape["value_width"], chunk=_JOINED_HEADS,
        split_tokens=step.tiling.split_tokens, window=options.window, has_sinks=options.sinks is not None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a layer's shapes are cut; widths in ``shape`` are powers of two, which blocks in Triton must be.

    A program packs ``packed`` of a group's query heads, ``chunks`` programs a whole group, into ``rows`` rows.
    """

    shape: dict[str, int]
    packed: int
    chunks: int
    rows: int
    warps: int
    stages: int
    widen: bool


def _plan(query: torch.Tensor, pool_keys: torch.Tensor, pool_values: torch.Tensor, step: Step) -> _Plan:
    kv_heads, dim = pool_keys.shape[2:]
    value_dim, group, size = pool_values.shape[3], query.shape[1] // kv_heads, query.element_size()
    dim_width, value_width = (max(16, triton.next_power_of_2(width)) for width in (dim, value_dim))
    most_rows, most_bytes = _MOST_PACKED[size]
    most = min(most_rows, most_bytes // (size * dim_width))
    packed = min(group, max(1, most // step.tiling.tile_tokens))
    rows = max(16, triton.next_power_of_2(packed * step.tiling.tile_tokens))
    # Queries and their weights stay in shared memory; blocks of keys and values are read ahead into what is left.
    room = _shared_bytes(query.device) - 2 * rows * size * dim_width
    return _Plan(
        shape={
            "kv_heads": kv_heads,
            "dim": dim,
            "dim_width": dim_width,
            "value_dim": value_dim,
            "value_width": value_width,
        },
        packed=packed,
        chunks=triton.cdiv(group, packed),
        rows=rows,
        warps=8 if rows > 64 or size == 4 or dim_width > 128 else 4,
        stages=min(3, max(1, room // (size * BLOCK * (dim_width + value_width)))),
        # Triton's interpreter keeps bfloat16 as bits and would multiply those.
        widen=triton.knobs.runtime.interpret and query.dtype == torch.bfloat16,
    )


@lru_cache(maxsize=16)
def _shared_bytes(device: torch.device) -> int:
    """Return the shared memory that a program may use; a kernel reads ahead as far as that allows."""
    if device.type != "cuda":
        return 0
    index = torch.cuda.current_device() if device.index is None else device.index
    return int(triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"])


def _rows_dense(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor``, copied only if its last dimension is strided."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _check(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pool_keys: torch.Tensor,
    pool_values: torch.Tensor,
    step: Step,
) -> None:
    tokens = step.slots.shape[0]
    served = query.dtype in {torch.float32, torch.float16, torch.bfloat16}
    same = {query.dtype, key.dtype, value.dtype, pool_keys.dtype, pool_values.dtype}
    dense = pool_keys.is_contiguous() and pool_values.is_contiguous()
    shapes = (
        key.shape == (tokens, pool_keys.shape[2], query.shape[2])
        and value.shape[:2] == key.shape[:2]
        and query.shape[0] == tokens
        and query.shape[1] % key.shape[1] == 0
        and pool_keys.shape[1:] == (BLOCK, *key.shape[1:])
        and pool_values.shape == (pool_keys.shape[0], BLOCK, *value.shape[1:])
    )
    if not served or len(same) != 1 or not dense or not shapes:
        got = [(tuple(part.shape), part.dtype) for part in (query, key, value, pool_keys, pool_values)]
        msg = (
            f"attention: expected query, key and value of {tokens} tokens and contiguous pools of blocks of {BLOCK}, "
            f"with heads and 16- or 32-bit float types that match, got {got}"
        )
        raise ModelError(msg)
