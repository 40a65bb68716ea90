"""Random tokens: the worst drafter there is. Shows that a draft changes the speed, never the text."""

from __future__ import annotations

import random
from collections.abc import Sequence

from dsdq.contract import Contract, Rule
from dsdq.drafting import TO_THE_END, GoOn, Proposal
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.ngram import point_masses

MOST_ID = 1 << 16


class RandomDrafter:
    """Draws ids without knowing the vocabulary; some will not even be in it."""

    fingerprint = ""
    brief = True

    def start(self, contract: Contract, tokenizer: Tokenizer) -> RandomSession:
        """Begin a session; its draft is a function of the contract's seed."""
        del tokenizer
        return RandomSession(contract)


class RandomSession:
    """A seeded source of token ids, below a bound drawn anew for every round."""

    def __init__(self, contract: Contract) -> None:
        self._random = random.Random(contract.seed)  # noqa: S311 - guards nothing
        self._with_law = contract.rule is Rule.REJECTION

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return ``window`` ids, now and then one that the text holds."""
        del go_on  # all is drafted at once
        bound = 1 << self._random.randint(1, MOST_ID.bit_length())
        tokens = tuple(
            self._random.choice(text) if self._random.random() < 0.5 else self._random.randrange(bound)
            for _ in range(window)
        )
        return Proposal(tokens, point_masses(tokens) if self._with_law and tokens else None)
