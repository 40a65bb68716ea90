"""From logits to the log-probabilities that a contract asks for. Pure; only ids and floats leave the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from array_api_compat import array_namespace, is_torch_array, to_device
from numpy.typing import NDArray

from dsdq.logprobs import TokenLogprobs
from dsdq.noise import Array

_LEAST = float(np.finfo(np.float32).min)
"""Stands for minus infinity, which neither the wire nor JSON can carry."""


def top_logprobs(logits: Array, chosen: Sequence[int], count: int) -> TokenLogprobs:
    """Return the log-probabilities of chosen tokens and of the likeliest ones, under the softmax of logits.

    Args:
        logits: the target's own, float32 ``[n, vocab]``, numpy or torch, before any penalty, bias or processor.
        chosen: n token ids, each below ``vocab``.
        count: how many of the likeliest tokens are wanted, at least 1; equally likely ones in the order of their ids.

    Returns:
        ``count`` likeliest tokens of each row, or the whole vocabulary if that is less.
    """
    xp = array_namespace(logits)
    rows, count = logits.shape[0], min(count, logits.shape[-1])
    best = xp.max(logits, axis=-1, keepdims=True)
    # The sum is over the whole vocabulary: in float64, while its terms need no more than float32.
    total = xp.log(xp.sum(xp.exp(logits - best), axis=-1, keepdims=True, dtype=xp.float64))
    offset = xp.astype(best, xp.float64) + total
    top = _likeliest(logits, count)
    picked = xp.asarray(list(chosen), dtype=xp.int64, device=logits.device)[:, None]
    ids = xp.concat([picked, top], axis=-1)
    values = xp.astype(xp.take_along_axis(logits, ids, axis=-1), xp.float64) - offset
    host: NDArray[np.float32] = np.clip(_to_host(values), _LEAST, 0.0).astype(np.float32)
    return TokenLogprobs(host[:, 0], _to_host(top).astype(np.uint32).reshape(rows, count), host[:, 1:])


def _likeliest(logits: Array, count: int) -> Array:
    """Return the ids of each row's ``count`` largest, int64 ``[n, count]``, the largest first, the lowest id first."""
    xp = array_namespace(logits)
    least: Array
    if is_torch_array(logits):
        least = logits.topk(count, dim=-1).values[:, -1:]
    else:
        least = np.partition(logits, -count, axis=-1)[:, -count, None]
    (ids,) = xp.nonzero(xp.any(logits >= least, axis=0))  # what is among the largest of any row, in ascending order
    order = xp.argsort(-logits[:, ids], axis=-1, stable=True)
    return ids[order[:, :count]]


def _to_host(values: Array) -> NDArray[np.generic]:
    return np.asarray(to_device(values, "cpu"))
