"""What the judge of an engine is given of a round, and what it returns. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsdq.accept import Acceptance
from dsdq.contract import Contract
from dsdq.laws import DraftLaw
from dsdq.logprobs import TokenLogprobs


@dataclass(frozen=True, slots=True)
class Judged:
    """One round before the judge: ``drafted`` continues a text of ``length`` tokens; the forward saw ``fed`` of it.

    All of it, or all but a last id that the target does not have. ``text`` and how much of it is the prompt are needed
    where the contract adjusts logits by the text, and where the verifier is ``wanted`` to draft up to so many tokens
    itself: then ``drafted`` only keeps the places.
    """

    contract: Contract
    length: int
    drafted: tuple[int, ...]
    law: DraftLaw | None
    fed: int
    text: Sequence[int] = ()
    prompt_tokens: int = 0
    wanted: int = 0


@dataclass(frozen=True, slots=True)
class Drafting:
    """What the verifier's own drafts of a step took, for which so many positions were fed."""

    ms: float = 0.0
    positions: int = 0


NOTHING_DRAFTED = Drafting()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What stands of a round, and how likely its tokens were if its contract asks for that.

    ``drafted`` is how many tokens the verifier drafted for it, None where it was not asked to. ``drafting`` is what the
    drafts of all rounds of its step took, before the pass.
    """

    acceptance: Acceptance
    logprobs: TokenLogprobs | None = None
    drafted: int | None = None
    drafting: Drafting = NOTHING_DRAFTED
