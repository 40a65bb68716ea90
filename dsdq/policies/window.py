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
