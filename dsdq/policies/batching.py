"""What goes into the verifier's next step: the oldest ready rows that fit the token budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ready:
    """A row that could run now: whose it is, and how many token positions its forward takes."""

    session: str
    tokens: int


def first_in_first_out(ready: Iterable[Ready], budget_tokens: int) -> Sequence[Ready]:
    """Return the longest prefix of ``ready`` (oldest first) whose positions fit the budget.

    The oldest row is always taken, even when it alone exceeds the budget: otherwise it would wait for ever.
    """
    taken: list[Ready] = []
    left = budget_tokens
    for row in ready:
        if taken and row.tokens > left:
            break
        taken.append(row)
        left -= row.tokens
    return taken
