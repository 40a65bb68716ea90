"""What a forward is made of: one row per session, and the packed arrays that every layer shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dsdq.errors import ModelError
from dsdq.policies.paging import BLOCK


@dataclass(frozen=True, slots=True)
class Row:
    """What one session feeds in one forward.

    ``tokens`` go to the absolute positions ``start, start + 1, …``; what was there is overwritten. The logits of the
    last ``keep`` of them are wanted. Positions below ``start`` must have been fed before. ``blocks`` are the session's
    blocks of the KV pool, in the order of its text.
    """

    session: str
    start: int
    tokens: Sequence[int]
    keep: int
    blocks: Sequence[int]

    @property
    def end(self) -> int:
        """Return the position behind the last token."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """All rows of a forward behind each other: ``T`` tokens of ``R`` rows, ``kept`` of their logits wanted.

    ``ids``, ``positions`` and ``slots`` are int64 ``[T]``; a slot is ``block * BLOCK + place``. ``keep`` int64
    ``[kept]`` are places in the packed order. ``starts`` and ``counts`` int64 ``[R]`` are each row's first position and
    number of tokens, ``tables`` int32 ``[R, blocks]`` its blocks, zeros behind the last one.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    slots: NDArray[np.int64]
    keep: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    tables: NDArray[np.int32]

    @property
    def tokens(self) -> int:
        """Return how many tokens there are."""
        return len(self.ids)


def check(rows: Sequence[Row], *, vocab_size: int, context_tokens: int, kv_blocks: int) -> None:
    """Return when an engine of these bounds can feed ``rows`` in one forward.

    Raises:
        ModelError: a session appears twice, or a row's positions, tokens, blocks or ``keep`` are out of range.
    """
    if not rows or len({row.session for row in rows}) != len(rows):
        msg = f"forward: expected at least one row and one row per session, got {[row.session for row in rows]}"
        raise ModelError(msg)
    for row in rows:
        _check_place(row, min(len(row.blocks) * BLOCK, context_tokens))
        if not 0 <= min(row.tokens) <= max(row.tokens) < vocab_size:
            msg = f"session {row.session!r}: expected token ids below {vocab_size}, got {max(row.tokens)}"
            raise ModelError(msg)
        if not 0 <= min(row.blocks) <= max(row.blocks) < kv_blocks:
            msg = f"session {row.session!r}: expected blocks below {kv_blocks}, got {list(row.blocks)}"
            raise ModelError(msg)


def _check_place(row: Row, room: int) -> None:
    count = len(row.tokens)
    if row.start < 0 or count < 1 or row.end > room or not 0 <= row.keep <= count:
        msg = (
            f"session {row.session!r}: expected at least one token, all within its {room} positions, and at most "
            f"all of them kept; got {count} from position {row.start}, {row.keep} kept"
        )
        raise ModelError(msg)


def pack(rows: Sequence[Row]) -> Packed:
    """Lay ``rows`` behind each other; none are padding alone."""
    starts = np.array([row.start for row in rows], np.int64)
    counts = np.array([len(row.tokens) for row in rows], np.int64)
    total = int(counts.sum())
    ids = np.fromiter(chain.from_iterable(row.tokens for row in rows), np.int64, total)
    ends = np.cumsum(counts)
    positions = np.arange(total) + np.repeat(starts + counts - ends, counts)
    tables = np.zeros((len(rows), max((len(row.blocks) for row in rows), default=0)), np.int32)
    for number, row in enumerate(rows):
        tables[number, : len(row.blocks)] = row.blocks
    owner = np.repeat(np.arange(len(rows)), counts)
    slots = tables[owner, positions // BLOCK].astype(np.int64) * BLOCK + positions % BLOCK
    keeps = np.array([row.keep for row in rows], np.int64)
    kept_ends = np.cumsum(keeps)
    keep = np.arange(int(keeps.sum())) + np.repeat(ends - kept_ends, keeps)
    return Packed(ids, positions, slots, keep, starts, counts, tables)
