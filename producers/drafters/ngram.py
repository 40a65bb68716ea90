"""Prompt look-up: propose what followed the text's last few tokens when they last occurred. No model, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsdq.contract import Contract, Rule
from dsdq.drafting import TO_THE_END, GoOn, Proposal
from dsdq.laws import DraftLaw
from dsdq.models.tokenizer import Tokenizer
from dsdq.ngrams import NgramIndex


class NgramDrafter:
    """Works on token ids alone, so it fits every target."""

    fingerprint = ""
    brief = True

    def start(self, contract: Contract, tokenizer: Tokenizer) -> NgramSession:
        """Begin a session with an empty index."""
        del tokenizer
        return NgramSession(with_law=contract.rule is Rule.REJECTION)


class NgramSession:
    """The n-grams of one text."""

    def __init__(self, *, with_law: bool) -> None:
        self._with_law = with_law
        self._index = NgramIndex()

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return the continuation of the longest n-gram that occurred before, or nothing."""
        del go_on  # all is drafted at once
        tokens = self._index.continuation(text, window)
        return Proposal(tokens, point_masses(tokens) if self._with_law and tokens else None)


def point_masses(tokens: Sequence[int]) -> DraftLaw:
    """Return the law of tokens that were not sampled at all: each has probability 1."""
    ids = np.array(tokens, dtype=np.uint32)[:, None]
    return DraftLaw(ids, np.ones_like(ids, dtype=np.uint16))
