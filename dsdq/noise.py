"""Random numbers that two machines can derive without talking: a counter-based generator, read by position and token.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) maps a 64-bit key and a 128-bit
counter to four 32-bit words. The key is the session's seed; the counter is ``(token // 4, position, choice, purpose)``;
the word is ``token % 4``. So noise at any position and token can be asked for alone, in any order, any number of times.

Everything here takes and returns arrays of numpy or torch alike; the words are equal bit for bit in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

Array = Any
"""An array of numpy or torch."""
PerRow = int | Sequence[int] | Array
"""One value for all rows, or one for each; in an int64 array, 64 bits are read as they are."""

ROUNDS = 10
WORDS = 4
GUMBEL_MOST = 22.88
"""The largest Gumbel value is below this: -log(2^-33) = 22.874."""
GUMBEL_LEAST = -3.14
"""The smallest Gumbel value is above this: -log(33 log 2) = -3.130."""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


class Purpose(IntEnum):
    """The last word of the counter: numbers drawn for different ends are never the same ones."""

    GUMBEL = 0
    ACCEPT = 1
    RESIDUAL = 2
    BONUS = 3


def philox4x32(
    counter: tuple[Array, Array, Array, Array], key: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """Return the four output words for each counter.

    Args:
        counter: four int64 arrays of one shape, each element a 32-bit word.
        key: two 32-bit words, or int64 arrays of them that broadcast to that shape.

    Returns:
        four int64 arrays of that shape, each element a 32-bit word.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # Products are taken modulo 2^64 in signed words: the low half is right as it is, the high half once masked.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) & _LOW ^ c1 ^ k0, p1 & _LOW, (p0 >> 32) & _LOW ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + WEYL[0]) & _LOW, (k1 + WEYL[1]) & _LOW
    return c0, c1, c2, c3


def words(seed: PerRow, positions: Array, tokens: Array, choice: PerRow, purpose: Purpose) -> Array:
    """Return the 32-bit word of each (position, token) as int64.

    Args:
        seed: 64 bits; one for all positions, or one for each.
        positions: int64 ``[n]``.
        tokens: int64 ``[v]``.
        choice: index of the answer, below 2^32; one for all positions, or one for each.
        purpose: what the words are for.

    Returns:
        int64 ``[n, v]``.
    """
    xp = array_namespace(positions, tokens)
    # Tokens often come in runs: each block of four is computed once.
    blocks, place = xp.unique_inverse(tokens // WORDS)
    out = _words_of_blocks(seed, positions, blocks, choice, purpose)
    return out[:, xp.reshape(place, (-1,)) * WORDS + tokens % WORDS]


def _words_of_blocks(seed: PerRow, positions: Array, blocks: Array, choice: PerRow, purpose: Purpose) -> Array:
    """Return the words of whole blocks ``[b]`` of four tokens, int64 ``[n, 4 b]``."""
    xp = array_namespace(positions, blocks)
    shape = (positions.shape[0], blocks.shape[0])

    def per_row(value: PerRow, change: Callable[[Any], Any]) -> Array:
        """Return one number, or a column of them."""
        if isinstance(value, int):
            return change(value)
        if isinstance(value, Sequence):
            return xp.asarray([change(each) for each in value], dtype=xp.int64, device=positions.device)[:, None]
        return change(value)[:, None]

    first = xp.broadcast_to(blocks[None, :], shape)
    second = xp.broadcast_to(positions[:, None], shape)
    zeros = xp.zeros_like(first)
    key = (per_row(seed, lambda bits: bits & _LOW), per_row(seed, lambda bits: (bits >> 32) & _LOW))
    third = zeros + per_row(choice, lambda index: index)
    out = xp.stack(philox4x32((first, second, third, zeros + int(purpose)), key), axis=-1)
    return xp.reshape(out, (shape[0], -1))


def gumbel(seed: PerRow, positions: Array, tokens: Array, choice: PerRow) -> Array:
    """Return standard Gumbel noise, float64 ``[n, v]``, for positions ``[n]`` and tokens ``[v]``; see :func:`words`."""
    return _gumbel(words(seed, positions, tokens, choice, Purpose.GUMBEL))


def gumbel_everywhere(seed: PerRow, positions: Array, vocab: int, choice: PerRow) -> Array:
    """Return :func:`gumbel` of all tokens, float64 ``[n, vocab]``; a GPU is not asked which blocks those are."""
    xp = array_namespace(positions)
    blocks = xp.arange(-(-vocab // WORDS), device=positions.device)
    return _gumbel(_words_of_blocks(seed, positions, blocks, choice, Purpose.GUMBEL)[:, :vocab])


def _gumbel(drawn: Array) -> Array:
    xp = array_namespace(drawn)
    uniform = (xp.astype(drawn, xp.float64) + 0.5) * 2.0**-32
    return -xp.log(-xp.log1p(-uniform))


def uniforms(seed: int, positions: NDArray[np.int64], choice: int, purpose: Purpose) -> NDArray[np.float64]:
    """Return one number of the open unit interval for each of ``positions`` ``[n]``."""
    key = (seed & _LOW, seed >> 32)
    drawn = [_philox_scalar((0, int(position), choice, int(purpose)), key) for position in positions]
    return (np.array(drawn) + 0.5) * 2.0**-32


def session_seed(secret: int, session: str) -> int:
    """Return 64 bits for one session that nobody without the secret can tell."""
    key = secret.to_bytes(8, "big")
    return int.from_bytes(blake2b(session.encode(), digest_size=8, key=key, person=b"dsdq.coins").digest(), "big")


def _philox_scalar(counter: tuple[int, int, int, int], key: tuple[int, int]) -> int:
    """Return the first output word of one counter, in Python's own integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _LOW, (p0 >> 32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + WEYL[0]) & _LOW, (k1 + WEYL[1]) & _LOW
    return c0
