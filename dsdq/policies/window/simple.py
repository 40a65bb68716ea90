"""Policies that do not measure time: a fixed window, stopping by confidence, and backing off when rejected."""

from __future__ import annotations

from dataclasses import dataclass

from dsdq.policies.window.protocol import Choice, Observation


@dataclass(frozen=True, slots=True)
class Static:
    """The same window always: the baseline of every paper (γ = 4 in most)."""

    window: int
    depth: int = 1

    def observe(self, observation: Observation) -> None:
        """Learn nothing."""

    def choose(self) -> Choice:
        """Return the fixed window and depth."""
        return Choice(self.window, self.depth)

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        """Draft the whole window."""
        return True
