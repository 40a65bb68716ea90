"""What a drafter is. Whatever it proposes is safe: under the coupled rule a bad proposal costs time, never text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dsdq.contract import Contract
from dsdq.laws import DraftLaw
from dsdq.models.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Proposal:
    """Draft tokens for the next positions, with what they were sampled from if the contract's rule asks for it.

    Without tokens, the verifier is granted ``budget`` tokens to decode alone. ``confidences`` are the drafter's
    probabilities of its tokens; none where nobody asked for them, or it knows none.
    """

    tokens: tuple[int, ...]
    law: DraftLaw | None = None
    budget: int = 1
    confidences: tuple[float, ...] = ()

    def tail(self, skipped: int) -> Proposal:
        """Return the proposal without its first ``skipped`` tokens."""
        if not skipped:
            return self
        law = None if self.law is None else self.law.tail(skipped)
        return replace(self, tokens=self.tokens[skipped:], law=law, confidences=self.confidences[skipped:])


class GoOn(Protocol):
    """Says, token by token, whether a draft goes on. It is asked in the drafter's thread."""

    @property
    def uses_confidence(self) -> bool:
        """Say whether the answer depends on how likely the drafter finds its tokens: else it need not work that out."""
        ...

    def __call__(self, tokens: Sequence[int], confidence: float | None) -> bool:
        """Say whether to draft another token behind ``tokens``, those drafted so far.

        Args:
            tokens: to be looked at during the call only.
            confidence: the drafter's probability of the last of them, None where it knows none.
        """
        ...


class _ToTheEnd:
    """Lets every draft go on."""

    uses_confidence = False

    def __call__(self, tokens: Sequence[int], confidence: float | None) -> bool:
        """Go on."""
        del tokens, confidence
        return True


TO_THE_END: GoOn = _ToTheEnd()


class DraftSession(Protocol):
    """Drafts one session's text. Called from one thread at a time."""

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return up to ``window`` tokens to follow ``text``: prompt, committed tokens, and drafts on their way.

        What was in a text or proposed before, and is not in ``text``, was rejected; the session rolls back by itself.
        ``go_on`` is asked after each token but the last; a drafter that drafts all at once need not ask.
        """
        ...


class Drafter(Protocol):
    """A loaded drafter, shared by the sessions of a device.

    ``fingerprint`` is its tokenizer's, which must be the target's; empty for a drafter that works on any token ids.
    ``brief`` says that a draft is made sooner than another thread could take it up; other drafts get a thread.
    """

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of its tokenizer, or nothing."""
        ...

    @property
    def brief(self) -> bool:
        """Say whether a draft takes about a tenth of a millisecond at most."""
        ...

    def start(self, contract: Contract, tokenizer: Tokenizer) -> DraftSession:
        """Begin a session whose ids are ``tokenizer``'s, the target's. This may take a second or more.

        Raises:
            DsdqError: it cannot draft under this contract, or for this tokenizer.
        """
        ...
