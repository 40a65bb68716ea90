"""How many tokens a device drafts before it asks the verifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Observation:
    """What one answered round showed: counts in tokens, durations in milliseconds."""

    drafted: int
    accepted: int
    draft_ms: float
    round_trip_ms: float
    queue_ms: float
    verify_ms: float


class WindowPolicy(Protocol):
    """Chooses the next window from what was observed."""

    def observe(self, round_: Observation) -> None:
        """Take in what one answered round showed."""
        ...

    def choose(self) -> int:
        """Return the window of the next round, at least 1 token."""
        ...


@dataclass(frozen=True, slots=True)
class Static:
    """The same window always: the baseline of every paper (γ = 4 in most)."""

    window: int

    def observe(self, round_: Observation) -> None:
        """Learn nothing."""

    def choose(self) -> int:
        """Return the fixed window."""
        return self.window


def widest_window(step_tokens: int, waiting: int, agreed: int) -> int:
    """Return the largest window that a verifier asks for next, in tokens: with it, all who wait fit one step.

    A draft's tail is the part least likely to stand. Under load its place in a step is worth more to somebody else.

    Args:
        step_tokens: window tokens of one step.
        waiting: sessions whose rounds waited for this step.
        agreed: the contract's own bound.
    """
    return max(1, min(agreed, step_tokens // max(waiting, 1) - 1))
