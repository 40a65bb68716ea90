"""What goes into the verifier's next step: windows, oldest first, and beside them a bounded piece of prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """What one session could use now, in token positions.

    ``prefill`` positions of its text have no KV yet; ``verify`` positions behind them are those of a round that
    waits, 0 where none does.
    """

    session: str
    prefill: int
    verify: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one session gets of a step: ``verify`` is all of its work's, once its prefill ends in this step, or 0."""

    session: str
    prefill: int
    verify: int


def first_in_first_out(works: Iterable[Work], budget_tokens: int, prefill_tokens: int) -> Sequence[Share]:
    """Return the next step's shares; ``works`` come oldest first.

    Windows are taken in order while they fit ``budget_tokens``, the first one always; none overtakes one that did not
    fit. Prefill has ``prefill_tokens`` of its own: neither do long prompts hold up windows by more than that, nor do
    windows keep a prompt waiting.
    """
    shares: list[Share] = []
    left, prefill_left, taken, full = budget_tokens, prefill_tokens, False, False
    for work in works:
        prefill = min(work.prefill, prefill_left)
        verify = work.verify if prefill == work.prefill else 0
        if verify and (full or (taken and verify > left)):
            full, verify = True, 0
        if verify:
            taken, left = True, left - verify
        prefill_left -= prefill
        if prefill or verify:
            shares.append(Share(work.session, prefill, verify))
    return shares
