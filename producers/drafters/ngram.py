"""Prompt look-up: propose what followed the text's last few tokens when they last occurred. No model, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsdq.contract import Contract, Rule
from dsdq.drafting import Proposal
from dsdq.laws import DraftLaw
from dsdq.models.tokenizer import Tokenizer

LONGEST = 3


class NgramDrafter:
    """Works on token ids alone, so it fits every target."""

    fingerprint = ""
    brief = True

    def start(self, contract: Contract, tokenizer: Tokenizer) -> NgramSession:
        """Begin a session with an empty index."""
        del tokenizer
        return NgramSession(with_law=contract.rule is Rule.REJECTION)


class NgramSession:
    """An index from each n-gram of the text (n from 1 to ``LONGEST``) to the place behind its last occurrence."""

    def __init__(self, *, with_law: bool) -> None:
        self._with_law = with_law
        self._behind: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def propose(self, text: Sequence[int], window: int) -> Proposal:
        """Return the continuation of the longest n-gram that occurred before, or nothing."""
        tokens = self._continuation(text, window)
        return Proposal(tokens, point_masses(tokens) if self._with_law and tokens else None)

    def _continuation(self, text: Sequence[int], window: int) -> tuple[int, ...]:
        self._index(text)
        for size in range(min(LONGEST, len(text)), 0, -1):
            place = self._behind.get(tuple(text[-size:]))
            if place is not None:
                return tuple(text[place : place + window])
        return ()

    def _index(self, text: Sequence[int]) -> None:
        """Take in the n-grams that have a token behind them; the text only ever grows."""
        for place in range(max(self._indexed, 1), len(text)):
            for size in range(1, min(LONGEST, place) + 1):
                self._behind[tuple(text[place - size : place])] = place
        self._indexed = len(text)


def point_masses(tokens: Sequence[int]) -> DraftLaw:
    """Return the law of tokens that were not sampled at all: each has probability 1."""
    ids = np.array(tokens, dtype=np.uint32)[:, None]
    return DraftLaw(ids, np.ones_like(ids, dtype=np.uint16))
