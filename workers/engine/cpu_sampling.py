"""The coupled choice of many rows on the CPU: ``argmax(score + noise)``, without the noise of what cannot win.

A token wins only if its noise reaches from its score to the best sum so far, and noise that large is rare: with
``g = -log(-log1p(-u))`` it takes ``u <= exp(score - best)``. So each token costs its random word and one exponential,
in vector loops; the logarithms are taken for the few that pass, in float64, and those alone decide. The result is
exactly :func:`dsdq.sampling.choose`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange, types
from numpy.typing import NDArray

from dsdq.noise import MULTIPLIERS, ROUNDS, WEYL
from workers.engine.cpu_kernel import BLOCK, exponentials, jit

_M0, _M1 = (np.uint64(word) for word in MULTIPLIERS)
_W0, _W1 = (np.uint32(word) for word in WEYL)
_SHIFT = np.uint64(32)
_COUNTERS = BLOCK // 4
_MARGIN = np.float32(1.001)  # more than what float32 loses on the way to the comparison
_TO_UNIT = np.float32(2.0**-32)
_MOST = np.float32(0)


@jit
def _words(first: int, position: int, choice: int, low: np.uint32, high: np.uint32, state: Any, words: Any) -> None:
    """Set ``words`` uint32 ``[BLOCK]`` to those of tokens ``first, first + 1, …``; see :mod:`dsdq.noise`."""
    c0, c1, c2, c3 = state[0], state[1], state[2], state[3]
    for j in range(_COUNTERS):
        c0[j] = np.uint32(first // 4 + j)
        c1[j] = np.uint32(position)
        c2[j] = np.uint32(choice)
        c3[j] = np.uint32(0)
    for _ in range(ROUNDS):
        for j in range(_COUNTERS):
            p0, p1 = np.uint64(c0[j]) * _M0, np.uint64(c2[j]) * _M1
            c0[j] = np.uint32(p1 >> _SHIFT) ^ c1[j] ^ low
            c1[j] = np.uint32(p1)
            c2[j] = np.uint32(p0 >> _SHIFT) ^ c3[j] ^ high
            c3[j] = np.uint32(p0)
        low = np.uint32(low + _W0)
        high = np.uint32(high + _W1)
    for j in range(_COUNTERS):
        words[4 * j] = c0[j]
        words[4 * j + 1] = c1[j]
        words[4 * j + 2] = c2[j]
        words[4 * j + 3] = c3[j]


@jit
def _noise(word: np.uint32) -> float:
    return -math.log(-math.log1p(-((np.float64(word) + 0.5) * 2.0**-32)))


@jit
def _choose_row(logits: Any, temperature: float, key: Any, position: int, choice: int) -> Any:
    """Return the choice among ``logits`` ``[vocab]``; ``key`` is the seed as two words."""
    state, words = np.empty((4, _COUNTERS), np.uint32), np.empty(BLOCK, np.uint32)
    reach, powers = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
    vocab, top = len(logits), int(np.argmax(logits))
    _words(top - top % BLOCK, position, choice, key[0], key[1], state, words)
    chosen = top
    best = logits[top] / temperature + _noise(words[top % BLOCK])
    scale, ahead = np.float32(1 / temperature), np.float32(logits[top] / temperature - best)
    for first in range(0, vocab, BLOCK):
        count = min(BLOCK, vocab - first)
        _words(first, position, choice, key[0], key[1], state, words)
        for j in range(count):
            reach[j] = min(np.float32(logits[first + j] - logits[top]) * scale + ahead, _MOST)
        for j in range(count, BLOCK):
            reach[j] = np.float32(-1e30)
        exponentials(reach, powers)
        passed = 0
        for j in range(BLOCK):
            passed += np.float32(words[j]) * _TO_UNIT <= reach[j] * _MARGIN
        if passed == 0:
            continue
        for j in range(count):
            if np.float32(words[j]) * _TO_UNIT <= reach[j] * _MARGIN:
                value = logits[first + j] / temperature + _noise(words[j])
                if value > best or (value == best and first + j < chosen):
                    best, chosen = value, first + j
        ahead = np.float32(logits[top] / temperature - best)
    return chosen


def _choose(logits: Any, temperature: float, seeds: Any, positions: Any, choices: Any, chosen: Any) -> None:
    for row in prange(len(logits)):
        chosen[row] = _choose_row(logits[row], temperature, seeds[row], positions[row], choices[row])


@lru_cache(maxsize=1)
def _compiled() -> Any:
    arrays = types.uint32[:, ::1], types.int64[::1], types.int64[::1], types.int64[::1]
    signatures = [types.void(kind[:, ::1], types.float64, *arrays) for kind in (types.float32, types.float64)]
    return jit(_choose, *signatures, parallel=True)


def choose_rows(
    logits: NDArray[np.floating[Any]],
    temperature: float,
    seeds: Sequence[int],
    positions: NDArray[np.int64],
    choices: Sequence[int],
) -> NDArray[np.int64]:
    """Return the token of each row, each under noise of its own.

    Args:
        logits: ``[n, vocab]`` float32 logits, or float64 scores in which minus infinity excludes a token.
        temperature: what they are divided by, above 0.
        seeds: ``n`` seeds of 64 bits.
        positions: absolute positions of the tokens, ``[n]``.
        choices: the contracts' choice indices.

    Returns:
        int64 ``[n]``.
    """
    chosen = np.empty(len(logits), np.int64)
    words = np.array(seeds, np.uint64).view(np.uint32).reshape(-1, 2)  # low, high
    _compiled()(np.ascontiguousarray(logits), temperature, words, positions, np.array(choices, np.int64), chosen)
    return chosen
