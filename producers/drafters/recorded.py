"""A device without a model, for tests and benchmarks: drafts the hash model's text, as well and as fast as it is told.

The text that the verifier will give is known (:mod:`dsdq.testing.hashed`); so many of its tokens are proposed wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsdq.contract import Contract, Rule
from dsdq.drafting import TO_THE_END, GoOn, Proposal
from dsdq.models.tokenizer import Tokenizer
from dsdq.testing.hashed import Guesser
from producers.drafters.ngram import point_masses


class RecordedDrafter:
    """Drafts for the target ``testing/hash``.

    Each token is right with probability ``acceptance``, from 0 to 1, and takes ``ms_per_token``.
    """

    fingerprint = ""

    def __init__(self, acceptance: float, ms_per_token: float = 0.0) -> None:
        self._guesser = Guesser(acceptance, ms_per_token)
        self.brief = not ms_per_token

    @classmethod
    def named(cls, name: str) -> RecordedDrafter:
        """Return what ``hash:ACCEPTANCE`` or ``hash:ACCEPTANCE:MS_PER_TOKEN`` stands for.

        Raises:
            ConfigError: the name is neither, or a number is out of range.
        """
        guesser = Guesser.named(name)
        return cls(guesser.acceptance, guesser.ms_per_token)

    def start(self, contract: Contract, tokenizer: Tokenizer) -> RecordedSession:
        """Begin a session; its drafts are a function of the contract's terms and the text."""
        del tokenizer
        return RecordedSession(contract, self._guesser)


class RecordedSession:
    """Keeps nothing between rounds: what is proposed for a text is the same however often it is asked for."""

    def __init__(self, contract: Contract, guesser: Guesser) -> None:
        self._contract = contract
        self._guesser = guesser

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return ``window`` tokens of the target's own text, wrong ones among them."""
        terms = self._contract
        tokens = self._guesser.guess(text, window, terms.sampling, terms.seed, terms.choice, go_on)
        law = point_masses(tokens) if terms.rule is Rule.REJECTION and tokens else None
        return Proposal(tokens, law)
