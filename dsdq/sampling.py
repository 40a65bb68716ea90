"""From logits to a token: temperature, top-k, top-p, min-p, and the shared noise.

Arrays of numpy or torch alike. Devices use numpy; the verifier uses numpy on the CPU (its logarithm does not depend on
where in an array an element stands) and torch on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from dsdq import noise
from dsdq.contract import Sampling
from dsdq.laws import MAX_SUPPORT, DraftLaw
from dsdq.noise import Array

DEVICE_CANDIDATES = 256
"""A device adds noise to its most likely tokens only: any draft is safe, and the others hardly ever win."""

CHUNK_BYTES = 256 * 10**6
"""What torch may need in between for a forward's rows, whose noise over a large vocabulary would take gigabytes."""

# For each logit: a mask and an id; float64 scores, sorted copies of them and their ranks, and words of noise.
_ARGMAX_BYTES, _CHOICE_BYTES = 16, 96
_REACH = noise.GUMBEL_MOST - noise.GUMBEL_LEAST
_MOST_WEIGHT = 65_535


def scores(logits: Array, sampling: Sampling) -> Array:
    """Return unnormalised log-probabilities after all processors, minus infinity where a token is excluded.

    Args:
        logits: float ``[n, vocab]``.
        sampling: with a temperature above 0.

    Returns:
        float64 ``[n, vocab]``.
    """
    xp = array_namespace(logits)
    kept = xp.astype(logits, xp.float64) / sampling.temperature
    vocab = kept.shape[-1]
    if not (0 < sampling.top_k < vocab or sampling.top_p < 1 or sampling.min_p > 0):
        return kept
    order = xp.argsort(-kept, axis=-1, stable=True)  # equal logits in the order of their ids
    rank = _inverse(order)
    if 0 < sampling.top_k < vocab:
        kept = xp.where(rank < sampling.top_k, kept, -xp.inf)
    if sampling.top_p < 1:
        # A token stays while the tokens before it have not reached top_p: the smallest set whose mass does.
        falling = xp.take_along_axis(normalised(kept), order, axis=-1)
        before = xp.cumulative_sum(falling, axis=-1) - falling
        kept = xp.where(xp.take_along_axis(before, rank, axis=-1) < sampling.top_p, kept, -xp.inf)
    if sampling.min_p > 0:
        law = normalised(kept)
        kept = xp.where(law >= sampling.min_p * xp.max(law, axis=-1, keepdims=True), kept, -xp.inf)
    return kept


def _inverse(order: Array) -> Array:
    """Return the place of each id in permutations of ids, int64 ``[n, vocab]``."""
    if isinstance(order, np.ndarray):  # without sorting again
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(order.shape[-1])[None, :], axis=-1)
        return rank
    return array_namespace(order).argsort(order, axis=-1, stable=True)


def normalised(log_weights: Array) -> Array:
    """Return the probabilities, float64 ``[n, vocab]``, of log-weights of that shape."""
    xp = array_namespace(log_weights)
    weights = xp.exp(log_weights - xp.max(log_weights, axis=-1, keepdims=True))
    return weights / xp.sum(weights, axis=-1, keepdims=True)


def law(logits: Array, sampling: Sampling) -> Array:
    """Return the distribution of the next token, float64 ``[n, vocab]``; greedy is a point mass."""
    xp = array_namespace(logits)
    if sampling.greedy:
        ids = xp.arange(logits.shape[-1])
        return xp.astype(ids[None, :] == argmax(logits)[:, None], xp.float64)
    return normalised(scores(logits, sampling))


def argmax(values: Array) -> Array:
    """Return the int64 ``[n]`` index of each row's largest value, the lowest among equals (torch promises none)."""
    if isinstance(values, np.ndarray):
        return np.argmax(values, axis=-1)
    xp = array_namespace(values)
    ids = xp.arange(values.shape[-1], device=values.device)[None, :]

    def some(rows: slice) -> Array:
        """Return the indices of some rows."""
        part = values[rows]
        best = xp.max(part, axis=-1, keepdims=True)
        return xp.min(xp.where(part == best, ids, values.shape[-1]), axis=-1)

    return xp.concat([some(rows) for rows in _chunks(values.shape, _ARGMAX_BYTES)])


def _chunks(shape: tuple[int, ...], number_bytes: int) -> list[slice]:
    """Cut the rows of ``shape`` ``[n, vocab]`` so that ``number_bytes`` for each number stay within CHUNK_BYTES."""
    rows, vocab = shape
    each = max(1, CHUNK_BYTES // (vocab * number_bytes))
    return [slice(first, first + each) for first in range(0, max(rows, 1), each)]


def choose(logits: Array, sampling: Sampling, seed: int, first_position: int, choice: int) -> Array:
    """Return the token of each row under the shared noise: ``argmax(log p + g)``, int64 ``[n]``.

    Args:
        logits: float ``[n, vocab]`` for the positions ``first_position``, ``first_position + 1``, …
        sampling: temperature 0 is the argmax of the logits.
        seed: the contract's.
        first_position: absolute position of the first row's token.
        choice: the contract's.
    """
    if sampling.greedy:
        return argmax(logits)
    xp = array_namespace(logits)
    values = scores(logits, sampling)
    # Exact pruning: noise spans less than _REACH, so what lies further below the best in every row cannot win.
    near = xp.any(values >= xp.max(values, axis=-1, keepdims=True) - _REACH, axis=0)
    (tokens,) = xp.nonzero(near)
    positions = xp.arange(first_position, first_position + logits.shape[0], device=logits.device)
    noisy = values[:, tokens] + noise.gumbel(seed, positions, tokens, choice)
    return tokens[argmax(noisy)]


def choose_rows(logits: Array, sampling: Sampling, seeds: Array, positions: Array, choices: Array) -> Array:
    """Return the token of each row under noise of its own session, int64 ``[n]``; see :func:`choose`.

    Rows are taken some at a time, so that what is computed in between stays within ``CHUNK_BYTES``.

    Args:
        logits: float ``[n, vocab]`` of any sessions that share ``sampling``, which is not greedy.
        sampling: how all rows are drawn.
        seeds: each row's seed, int64 ``[n]`` of the same 64 bits, on the device of the logits like the others.
        positions: int64 ``[n]``, the absolute position of each row's token.
        choices: each row's choice, int64 ``[n]``.
    """
    vocab = logits.shape[-1]

    def some(rows: slice) -> Array:
        """Return the tokens of some rows."""
        noisy = noise.gumbel_everywhere(seeds[rows], positions[rows], vocab, choices[rows])
        return argmax(scores(logits[rows], sampling) + noisy)

    return array_namespace(logits).concat([some(rows) for rows in _chunks(logits.shape, _CHOICE_BYTES)])


def choose_on_device(logits: NDArray[np.float32], sampling: Sampling, seed: int, position: int, choice: int) -> int:
    """Return a draft token for logits ``[vocab]`` under the shared noise, looking at the most likely tokens only."""
    if sampling.greedy:
        return int(np.argmax(logits))
    tokens = most_likely(logits, DEVICE_CANDIDATES)
    values = scores(logits[tokens][None, :], sampling)
    noisy = values + noise.gumbel(seed, np.array([position]), tokens, choice)
    return int(tokens[np.argmax(noisy[0])])


def confidence(logits: NDArray[np.float32], sampling: Sampling, token: int) -> float:
    """Return the probability of a draft token under the law of logits ``[vocab]``, with temperature and processors.

    A greedy choice has no law: there it is the probability at a temperature of 1. Top-k, top-p and min-p choose among
    the most likely tokens only, as in :func:`choose_on_device`.
    """
    if sampling.greedy or sampling.plain:
        scaled = logits / np.float32(sampling.temperature or 1.0)
        weights = np.exp(scaled - scaled.max())
        return float(weights[token] / weights.sum())
    tokens = most_likely(logits, DEVICE_CANDIDATES)
    chances = law(logits[tokens][None, :], sampling)[0]
    return float(chances[tokens == token].sum())


def most_likely(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the ids, ascending, of the ``count`` largest of logits ``[vocab]``."""
    if len(logits) <= count:
        return np.arange(len(logits))
    return np.sort(np.argpartition(logits, -count)[-count:])


def truncated_law(logits: NDArray[np.float32], sampling: Sampling) -> DraftLaw:
    """Return the law, of one position, that a drafter under the rejection rule samples from and reports.

    The most likely tokens after all processors, with whole-number weights: what is reported is exactly what is sampled.
    """
    tokens = most_likely(logits, MAX_SUPPORT)
    if sampling.greedy:
        best = int(np.argmax(logits))
        return DraftLaw(np.array([[best]], dtype=np.uint32), np.array([[1]], dtype=np.uint16))
    probabilities = law(logits[tokens][None, :], sampling)[0]
    weights = np.rint(probabilities / probabilities.max() * _MOST_WEIGHT)
    return DraftLaw(tokens[None, :].astype(np.uint32), weights[None, :].astype(np.uint16))


def draw(weights: Array, uniform: float) -> int:
    """Return the index that ``uniform`` (in the open unit interval) falls on; weights ``[v]`` have any positive sum."""
    xp = array_namespace(weights)
    edges = xp.cumulative_sum(weights)
    # The place is counted below the last edge, so that rounding can never point behind the last positive weight.
    place = int(xp.sum(edges <= uniform * edges[-1]))
    last = int(xp.max(xp.nonzero(weights > 0)[0]))
    return min(place, last)


def stack(laws: list[DraftLaw]) -> DraftLaw | None:
    """Return the laws of several positions as one, unused places having weight 0; None for no positions."""
    if not laws:
        return None
    support = max(one.ids.shape[1] for one in laws)
    ids = np.zeros((len(laws), support), dtype=np.uint32)
    weights = np.zeros((len(laws), support), dtype=np.uint16)
    for row, one in enumerate(laws):
        ids[row, : one.ids.shape[1]] = one.ids[0]
        weights[row, : one.ids.shape[1]] = one.weights[0]
    return DraftLaw(ids, weights)


def probabilities(draft_law: DraftLaw, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what the law gives to one token of each position, float64 ``[window]``."""
    weights = draft_law.weights.astype(np.float64)
    hit: NDArray[np.float64] = np.where(draft_law.ids == tokens[:, None], weights, 0.0).sum(axis=1)
    total: NDArray[np.float64] = weights.sum(axis=1)
    return hit / total


def dense(draft_law: DraftLaw, position: int, vocab: int, like: Any) -> Array:  # noqa: ANN401 - any array
    """Return one position's law as float64 ``[vocab]`` in the namespace and on the device of ``like``.

    Ids that the target does not have, which can only come from a draft of another vocabulary, are left out.
    """
    xp = array_namespace(like)
    total = float(draft_law.weights[position].sum(dtype=np.int64))
    full = np.zeros(vocab)
    inside = draft_law.ids[position] < vocab
    np.add.at(full, draft_law.ids[position][inside], draft_law.weights[position][inside] / total)
    return xp.asarray(full, device=like.device)
