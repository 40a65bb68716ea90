"""No draft: the verifier decodes alone and streams."""

from __future__ import annotations

from collections.abc import Sequence

from dsdq.contract import Contract
from dsdq.drafting import TO_THE_END, GoOn, Proposal
from dsdq.models.tokenizer import Tokenizer

GRANT_TOKENS = 64
"""What the verifier may decode before it is asked again: bounds the work for a device that has gone away."""


class NoDrafter:
    """Drafts nothing; grants the verifier tokens instead, so that no token costs a round trip."""

    fingerprint = ""
    brief = True

    def start(self, contract: Contract, tokenizer: Tokenizer) -> NoDrafter:
        """Return itself: it keeps nothing."""
        del contract, tokenizer
        return self

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return a grant."""
        del text, window, go_on
        return Proposal((), budget=GRANT_TOKENS)
