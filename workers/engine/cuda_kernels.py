"""The Triton kernels of :mod:`workers.engine.cuda_attention`, which says what they compute and promise.

Pools are ``[blocks, block, kv_heads, dim]`` and contiguous; a token's last dimension is dense. Offsets that can pass
2³¹ elements are 64-bit. Products of float32 are computed as three of tf32 each, which loses next to nothing and runs
on the tensor cores; other types ignore that. ``TRITON_INTERPRET=1``, set before Triton is imported, runs all this on
CPU tensors.
"""

# Kernels take flat arguments, and triton.jit is not typed.
# ruff: noqa: PLR0913, PLR0917
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

# Softmax is computed with powers of two, which the hardware has.
_LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def store(
    keys: tl.tensor,
    values: tl.tensor,
    pool_keys: tl.tensor,
    pool_values: tl.tensor,
    slots: tl.tensor,
    key_token_stride: tl.tensor,
    key_head_stride: tl.tensor,
    value_token_stride: tl.tensor,
    value_head_stride: tl.tensor,
    kv_heads: tl.constexpr,
    heads_width: tl.constexpr,
    dim: tl.constexpr,
    dim_width: tl.constexpr,
    value_dim: tl.constexpr,
    value_width: tl.constexpr,
) -> None:
    """Copy one token's key and value of all heads to its slot; a token without a slot is padding. Grid: tokens."""
    token = tl.program_id(0)
    slot = tl.load(slots + token)
    if slot >= 0:
        head = tl.arange(0, heads_width)[:, None]
        place = tl.arange(0, dim_width)[None, :]
        known = (head < kv_heads) & (place < dim)
        new = tl.load(keys + token * key_token_stride + head * key_head_stride + place, mask=known)
        tl.store(pool_keys + slot * (kv_heads * dim) + head * dim + place, new, mask=known)
        place = tl.arange(0, value_width)[None, :]
        known = (head < kv_heads) & (place < value_dim)
        new = tl.load(values + token * value_token_stride + head * value_head_stride + place, mask=known)
        tl.store(pool_values + slot * (kv_heads * value_dim) + head * value_dim + place, new, mask=known)


@triton.jit(do_not_specialize=["tokens", "table_width"])  # one kernel for every bucket
def attend_split(
    query: tl.tensor, pool_keys: tl.tensor, pool_values: tl.tensor,
    positions: tl.tensor, tiles: tl.tensor, tables: tl.tensor, sums: tl.tensor, stats: tl.tensor,
    query_token_stride: tl.tensor, query_head_stride: tl.tensor, tokens: tl.tensor, table_width: tl.tensor,
    scale: tl.tensor, kv_heads: tl.constexpr, group: tl.constexpr, packed: tl.constexpr, chunks: tl.constexpr,
    rows: tl.constexpr, block: tl.constexpr, split_blocks: tl.constexpr,
    dim: tl.constexpr, dim_width: tl.constexpr, value_dim: tl.constexpr, value_width: tl.constexpr,
    window: tl.constexpr, softcap: tl.constexpr, widen: tl.constexpr,
) -> None:  # fmt: skip
    """Attend from one tile to one split of its row. Grid: tiles, kv_heads · chunks, splits.

    Leaves unnormalised ``sums`` ``[splits, tokens, heads, value_dim]``, and in ``stats`` ``[splits, tokens, heads, 2]``
    the largest score, in powers of two, and the sum of weights relative to it.
    """
    split = tl.program_id(2)
    row, first, start, count = _tile(tiles, positions)
    low, high = _visible_blocks(split * split_blocks, start, count, block, split_blocks, window)
    if low < high:
        lane = tl.arange(0, rows)
        token = lane // packed
        member = tl.program_id(1) % chunks * packed + lane % packed
        kv_head = tl.program_id(1) // chunks
        head = kv_head * group + member
        real = (token < count) & (member < group)
        at = (first + token) * query_token_stride + head * query_head_stride
        queries = _read(query, at, real, dim, dim_width)
        top = tl.full([rows], float("-inf"), tl.float32)
        total = tl.zeros([rows], tl.float32)
        acc = tl.zeros([rows, value_width], tl.float32)
        for index in range(low, high):
            page = tl.load(tables + row * table_width + index).to(tl.int64) * (block * kv_heads) + kv_head
            place = tl.arange(0, block)
            written = index * block + place < start + count
            keys = _read(pool_keys + page * dim, place * (kv_heads * dim), written, dim, dim_width)
            scores = _scores(queries, keys, start + token, index * block + place, scale, window, softcap, widen)
            values = _read(
                pool_values + page * value_dim, place * (kv_heads * value_dim), written, value_dim, value_width
            )
            top, total, acc = _absorb(scores, values, top, total, acc, widen)
        at = (split * tokens + first + token).to(tl.int64) * (kv_heads * group) + head
        place = tl.arange(0, value_width)
        known = real[:, None] & (place < value_dim)[None, :]
        tl.store(sums + at[:, None] * value_dim + place[None, :], acc, mask=known)
        tl.store(stats + 2 * at, top, mask=real)
        tl.store(stats + 2 * at + 1, total, mask=real)


@triton.jit
def _tile(tiles: tl.tensor, positions: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Return this program's row, its first query's packed index and position, and its number of queries."""
    tile = tiles + 3 * tl.program_id(0)
    first = tl.load(tile + 1)
    return tl.load(tile), first, tl.load(positions + first), tl.load(tile + 2)


@triton.jit
def _visible_blocks(
    low: tl.tensor,
    start: tl.tensor,
    count: tl.tensor,
    block: tl.constexpr,
    split_blocks: tl.constexpr,
    window: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Return the range of blocks from ``low`` on that the split holds and some query may see; none for padding."""
    # (start + count - 1) // block + 1, without a negative dividend: those round towards zero here
    high = tl.where(count > 0, tl.minimum(low + split_blocks, (start + count - 1 + block) // block), 0)
    if window is not None:
        low = tl.maximum(low, tl.maximum(start - window + 1, 0) // block)
    return low, high


@triton.jit
def _read(
    base: tl.tensor,
    at: tl.tensor,
    known: tl.tensor,
    dim: tl.constexpr,
    width: tl.constexpr,
) -> tl.tensor:
    """Return ``[rows, width]`` from the offsets ``at`` ``[rows]``, zeros where not ``known``: NaN may lie there."""
    place = tl.arange(0, width)
    return tl.load(base + at[:, None] + place[None, :], mask=known[:, None] & (place < dim)[None, :], other=0.0)


@triton.jit
def _scores(
    queries: tl.tensor,
    keys: tl.tensor,
    query_positions: tl.tensor,
    key_positions: tl.tensor,
    scale: tl.tensor,
    window: tl.constexpr,
    softcap: tl.constexpr,
    widen: tl.constexpr,
) -> tl.tensor:
    """Return ``[rows, block]`` scores in powers of two, minus infinity where a query may not look."""
    if widen:
        queries = queries.to(tl.float32)
        keys = keys.to(tl.float32)
    scores = tl.dot(queries, tl.trans(keys), input_precision="tf32x3") * scale
    if softcap is not None:
        # softcap · tanh(scores / softcap); where the exponential overflows, the quotient is 0
        scores = softcap - 2 * softcap / (tl.exp2(scores * (2 * _LOG2E / softcap)) + 1)
    visible = key_positions[None, :] <= query_positions[:, None]
    if window is not None:
        visible &= key_positions[None, :] > query_positions[:, None] - window
    return tl.where(visible, scores * _LOG2E, float("-inf"))


@triton.jit
def _absorb(
    scores: tl.tensor,
    values: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    acc: tl.tensor,
    widen: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Add one block to the running maximum, sum of weights and weighted sum; unseen blocks change none of them."""
    new_top = tl.maximum(top, tl.max(scores, 1))
    # Before a query has seen anything its maximum is minus infinity, and differences would be NaN.
    base = tl.where(new_top == float("-inf"), 0.0, new_top)
    weights = tl.exp2(scores - base[:, None])
    kept = tl.exp2(top - base)
    total = total * kept + tl.sum(weights, 1)
    weights = weights.to(values.dtype)
    if widen:
        weights = weights.to(tl.float32)
        values = values.to(tl.float32)
    return new_top, total, tl.dot(weights, values, acc * kept[:, None], input_precision="tf32x3")


@triton.jit(do_not_specialize=["tokens"])  # one kernel for every bucket
def join_splits(
    sums: tl.tensor,
    stats: tl.tensor,
    output: tl.tensor,
    positions: tl.tensor,
    sinks: tl.tensor,
    tokens: tl.tensor,
    heads: tl.constexpr,
    value_dim: tl.constexpr,
    value_width: tl.constexpr,
    chunk: tl.constexpr,
    split_tokens: tl.constexpr,
    window: tl.constexpr,
    has_sinks: tl.constexpr,
) -> None:
    """Join a token's splits in ascending order and normalise; 0 for padding. Grid: tokens, chunks of its heads."""
    token = tl.program_id(0)
    position = tl.load(positions + token)
    head = tl.program_id(1) * chunk + tl.arange(0, chunk)
    place = tl.arange(0, value_width)
    known = (head < heads)[:, None] & (place < value_dim)[None, :]
    top = tl.full([chunk], float("-inf"), tl.float32)
    total = tl.zeros([chunk], tl.float32)
    if has_sinks:
        top = tl.load(sinks + head, mask=head < heads, other=0.0).to(tl.float32) * _LOG2E
        total += 1.0
    acc = tl.zeros([chunk, value_width], tl.float32)
    low = tl.maximum(position - window + 1, 0) // split_tokens if window is not None else 0
    for split in range(low, (position + split_tokens) // split_tokens):  # none for padding, at position -1
        at = (split * tokens + token).to(tl.int64) * heads + head
        split_top = tl.load(stats + 2 * at, mask=head < heads, other=0.0)
        split_total = tl.load(stats + 2 * at + 1, mask=head < heads, other=0.0)
        split_sums = tl.load(sums + at[:, None] * value_dim + place[None, :], mask=known, other=0.0)
        new_top = tl.maximum(top, split_top)
        kept = tl.exp2(top - new_top)
        came = tl.exp2(split_top - new_top)
        total = total * kept + split_total * came
        acc = acc * kept[:, None] + split_sums * came[:, None]
        top = new_top
    result = acc / tl.where(total > 0, total, 1.0)[:, None]
    at = (token * heads + head)[:, None] * value_dim + place[None, :]
    tl.store(output + at, result.to(output.dtype.element_ty), mask=known)
