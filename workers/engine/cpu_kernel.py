"""Paged attention on the CPU as one compiled call per layer, in which every query is computed alone.

torch's attention takes one call per row, and the bits of a query depend on the shape of that call. Here a query's
arithmetic is a fixed chain of operations over its own keys in their order: neither neighbours, nor windows, nor chunks
can change a bit, because nothing of theirs takes part. Vector loops run over independent elements (the keys of a block
for scores, the dimensions of a head for values), never over a sum, so their width does not show in the result either.

Layout of a layer's pool: keys ``[blocks, kv_heads, dim, BLOCK]``, values ``[blocks, kv_heads, BLOCK, value_dim]``,
float32. Up to four queries share each load of a key; those of one group of heads as well as those of one window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import prange, types

BLOCK = 64
SHARED = 4  # queries that share a load
NOTHING = np.float32(-1e30)  # the score of a key that a query may not look at
_LEAST = np.float32(-87.0)  # exp of less is below the smallest normal float32: taken as 0

# exp(r) for |r| <= log(2) / 2 (Cephes, expf): under one unit in the last place.
_LOG2E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_E1, _E2, _E3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_E4, _E5, _E6 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


def jit(function: Callable[..., Any], *signatures: object, parallel: bool = False) -> Any:
    """Compile ``function``; keep the result on disk where some place for it can be written.

    Products and sums may contract to fused ones, which rounds once; sums are never reordered.
    """
    options: dict[str, Any] = {"parallel": parallel, "fastmath": {"contract"}, "nogil": True, "error_model": "numpy"}
    given: Any = list(signatures) or None
    try:
        return numba.njit(given, cache=True, **options)(function)
    except RuntimeError:  # numba found no folder to write to
        return numba.njit(given, **options)(function)


@jit
def exponentials(x: Any, powers: Any) -> None:
    """Replace ``x`` ``[BLOCK]`` by exp(x), for x <= 0; ``powers`` int32 ``[BLOCK]`` is scratch."""
    for j in range(BLOCK):
        kept = max(x[j], _LEAST)
        n = np.floor(kept * _LOG2E + _HALF)
        r = (kept - n * _LN2_HIGH) - n * _LN2_LOW
        y = ((((_E1 * r + _E2) * r + _E3) * r + _E4) * r + _E5) * r + _E6
        powers[j] = (np.int32(n) + np.int32(127)) << np.int32(23)
        x[j] = y * r * r + r + _ONE if x[j] > _LEAST else _ZERO
    scale = powers.view(np.float32)
    for j in range(BLOCK):
        x[j] *= scale[j]


@jit
def _score_one(query: Any, key: Any, scores: Any) -> None:
    """Set ``scores`` ``[BLOCK]`` to the products of ``query`` ``[dim]`` with ``key`` ``[dim, BLOCK]``."""
    for j in range(BLOCK):
        scores[j] = _ZERO
    for d in range(0, len(query), 4):
        a, b, c, e = query[d], query[d + 1], query[d + 2], query[d + 3]
        k0, k1, k2, k3 = key[d], key[d + 1], key[d + 2], key[d + 3]
        for j in range(BLOCK):
            scores[j] = (((scores[j] + a * k0[j]) + b * k1[j]) + c * k2[j]) + e * k3[j]


@jit
def _score_four(queries: Any, key: Any, s0: Any, s1: Any, s2: Any, s3: Any) -> None:
    """Do what :func:`_score_one` does, for four queries, in the same order for each."""
    for j in range(BLOCK):
        s0[j], s1[j], s2[j], s3[j] = _ZERO, _ZERO, _ZERO, _ZERO
    for d in range(0, queries.shape[1], 2):
        a0, a1, b0, b1 = queries[0, d], queries[0, d + 1], queries[1, d], queries[1, d + 1]
        c0, c1, e0, e1 = queries[2, d], queries[2, d + 1], queries[3, d], queries[3, d + 1]
        k0, k1 = key[d], key[d + 1]
        for j in range(BLOCK):
            x, y = k0[j], k1[j]
            s0[j] = (s0[j] + a0 * x) + a1 * y
            s1[j] = (s1[j] + b0 * x) + b1 * y
            s2[j] = (s2[j] + c0 * x) + c1 * y
            s3[j] = (s3[j] + e0 * x) + e1 * y


@jit
def _mix_one(weights: Any, value: Any, keys: int, output: Any) -> None:
    """Add to ``output`` ``[dim]`` the first ``keys`` rows of ``value`` ``[BLOCK, dim]``, weighed."""
    whole = keys - keys % 4
    for j in range(0, whole, 4):
        a, b, c, e = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        v0, v1, v2, v3 = value[j], value[j + 1], value[j + 2], value[j + 3]
        for d in range(len(output)):
            output[d] = (((output[d] + a * v0[d]) + b * v1[d]) + c * v2[d]) + e * v3[d]
    for j in range(whole, keys):
        a, v0 = weights[j], value[j]
        for d in range(len(output)):
            output[d] = output[d] + a * v0[d]


@jit
def _mix_four(w0: Any, w1: Any, w2: Any, w3: Any, value: Any, keys: int, outputs: Any) -> None:
    """Do what :func:`_mix_one` does, for four queries, in the same order for each."""
    o0, o1, o2, o3 = outputs[0], outputs[1], outputs[2], outputs[3]
    whole = keys - keys % 2
    for j in range(0, whole, 2):
        a0, a1, b0, b1 = w0[j], w0[j + 1], w1[j], w1[j + 1]
        c0, c1, e0, e1 = w2[j], w2[j + 1], w3[j], w3[j + 1]
        v0, v1 = value[j], value[j + 1]
        for d in range(len(o0)):
            x, y = v0[d], v1[d]
            o0[d] = (o0[d] + a0 * x) + a1 * y
            o1[d] = (o1[d] + b0 * x) + b1 * y
            o2[d] = (o2[d] + c0 * x) + c1 * y
            o3[d] = (o3[d] + e0 * x) + e1 * y
    for j in range(whole, keys):
        for x in range(SHARED):
            weight = (w0, w1, w2, w3)[x][j]
            for d in range(len(o0)):
                outputs[x, d] = outputs[x, d] + weight * value[j, d]


@jit
def _squash(scores: Any, softcap: np.float32, lanes: Any, powers: Any) -> None:
    """Replace each score by ``softcap * tanh(score / softcap)`` (Gemma 2, arXiv 2408.00118)."""
    for first in range(0, len(scores), BLOCK):
        part = scores[first : first + BLOCK]
        for j in range(BLOCK):
            lanes[j] = -_TWO * abs(part[j] / softcap)
        exponentials(lanes, powers)
        for j in range(BLOCK):
            size = softcap * ((_ONE - lanes[j]) / (_ONE + lanes[j]))
            part[j] = size if part[j] >= 0 else -size


@jit
def _weigh(scores: Any, first: int, last: int, sink: np.float32, lanes: Any, powers: Any) -> np.float32:
    """Turn scores into exp(score - largest), 0 where the key is not within ``[first, last]``; return their sum.

    ``sink`` is one more score, without a value (gpt-oss); :data:`NOTHING` is none. The sum is taken per lane, then over
    lanes in order.
    """
    for j in range(first):
        scores[j] = NOTHING
    for j in range(last + 1, len(scores)):
        scores[j] = NOTHING
    for j in range(BLOCK):
        lanes[j] = NOTHING
    for start in range(0, len(scores), BLOCK):
        part = scores[start : start + BLOCK]
        for j in range(BLOCK):
            lanes[j] = max(lanes[j], part[j])
    most = sink
    for j in range(BLOCK):
        most = max(most, lanes[j])
        lanes[j] = _ZERO
    for start in range(0, len(scores), BLOCK):
        part = scores[start : start + BLOCK]
        for j in range(BLOCK):
            part[j] -= most
        exponentials(part, powers)
        for j in range(BLOCK):
            lanes[j] += part[j]
    total = _ZERO
    for j in range(BLOCK):
        total += lanes[j]
    if sink > NOTHING:
        lanes[0] = sink - most
        exponentials(lanes, powers)
        total += lanes[0]
    return total


@jit
def _attend_some(
    queries: Any,
    count: int,
    positions: Any,
    sinks: Any,
    keys: Any,
    values: Any,
    table: Any,
    head: int,
    window: int,
    softcap: np.float32,
    outputs: Any,
) -> None:
    """Attend from ``count`` (1 to SHARED) scaled queries ``[SHARED, dim]`` at ascending ``positions`` of one session.

    ``table`` names the session's blocks. Every query sees the keys up to its own position, the last ``window`` of them.
    """
    first = max(positions[0] - window + 1, 0) // BLOCK
    end = positions[count - 1] // BLOCK + 1
    scores = np.empty((SHARED, (end - first) * BLOCK), np.float32)
    lanes, powers, totals = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32), np.empty(SHARED, np.float32)
    for block in range(first, end):
        key, at = keys[table[block], head], (block - first) * BLOCK
        if count == SHARED:
            _score_four(
                queries,
                key,
                scores[0, at : at + BLOCK],  # a slice of rows would be strided, and the loops not vectorised
                scores[1, at : at + BLOCK],
                scores[2, at : at + BLOCK],
                scores[3, at : at + BLOCK],
            )
        else:
            for x in range(count):
                _score_one(queries[x], key, scores[x, at : at + BLOCK])
    for x in range(count):
        if softcap > 0:
            _squash(scores[x], softcap, lanes, powers)
        last = positions[x] - first * BLOCK
        totals[x] = _weigh(scores[x], max(last - window + 1, 0), last, sinks[x], lanes, powers)
    outputs[:] = _ZERO
    for block in range(first, end):
        value, at = values[table[block], head], (block - first) * BLOCK
        behind = min(positions[count - 1] - block * BLOCK + 1, BLOCK)  # what lies behind it is not this session's
        if count == SHARED:
            _mix_four(
                scores[0, at : at + BLOCK],
                scores[1, at : at + BLOCK],
                scores[2, at : at + BLOCK],
                scores[3, at : at + BLOCK],
                value,
                behind,
                outputs,
            )
        else:
            for x in range(count):
                _mix_one(scores[x, at : at + BLOCK], value, behind, outputs[x])
    for x in range(count):
        scale = _ONE / totals[x]
        for d in range(outputs.shape[1]):
            outputs[x, d] *= scale


def _store(key: Any, value: Any, slots: Any, keys: Any, values: Any) -> None:
    """Put ``key`` and ``value`` ``[T, kv_heads, dim]`` into the pool at ``slots`` ``[T]`` (block * BLOCK + place)."""
    for token in prange(len(slots)):
        block, place = slots[token] // BLOCK, slots[token] % BLOCK
        for head in range(key.shape[1]):
            for d in range(key.shape[2]):
                keys[block, head, d, place] = key[token, head, d]
            for d in range(value.shape[2]):
                values[block, head, place, d] = value[token, head, d]


def _attend(
    query: Any,
    keys: Any,
    values: Any,
    tables: Any,
    tasks: Any,
    sinks: Any,
    scale: np.float32,
    window: int,
    softcap: np.float32,
    output: Any,
) -> None:
    """Fill ``output`` ``[T, heads, value_dim]`` for ``query`` ``[T, heads, dim]``.

    ``tasks`` int64 ``[n, 4]``: row, first packed token, its position, number of tokens; ``tables`` int32
    ``[rows, blocks]``; ``sinks`` float32 ``[heads]``.
    """
    kv_heads = keys.shape[1]
    group = query.shape[1] // kv_heads
    for number in prange(len(tasks) * kv_heads):
        row, token, position, count = tasks[number // kv_heads]
        head = number % kv_heads
        queries = np.empty((SHARED, query.shape[2]), np.float32)
        outputs = np.empty((SHARED, output.shape[2]), np.float32)
        positions, own_sinks = np.empty(SHARED, np.int64), np.empty(SHARED, np.float32)
        done = 0
        while done < count * group:
            some = min(SHARED, count * group - done)
            for x in range(some):
                behind, place = (done + x) // group, head * group + (done + x) % group
                positions[x], own_sinks[x] = position + behind, sinks[place]
                for d in range(query.shape[2]):
                    queries[x, d] = query[token + behind, place, d] * scale
            _attend_some(queries, some, positions, own_sinks, keys, values, tables[row], head, window, softcap, outputs)
            for x in range(some):
                behind, place = (done + x) // group, head * group + (done + x) % group
                for d in range(output.shape[2]):
                    output[token + behind, place, d] = outputs[x, d]
            done += some


_ANY = types.Array(types.float32, 3, "A")
_POOL = types.Array(types.float32, 4, "C")


@lru_cache(maxsize=1)
def kernels() -> tuple[Any, Any]:
    """Return the compiled ``store`` and ``attend``; takes some seconds where no earlier run left them on disk."""
    store = jit(_store, types.void(_ANY, _ANY, types.int64[::1], _POOL, _POOL), parallel=True)
    signature = types.void(
        _ANY,
        _POOL,
        _POOL,
        types.int32[:, ::1],
        types.int64[:, ::1],
        types.float32[::1],
        types.float32,
        types.int64,
        types.float32,
        types.float32[:, :, ::1],
    )
    return store, jit(_attend, signature, parallel=True)


def no_sinks(heads: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the sinks ``[heads]`` of a model that has none."""
    return np.full(heads, NOTHING, np.float32)


NO_WINDOW = int(math.pow(2, 40))
"""A sliding window that is none."""
