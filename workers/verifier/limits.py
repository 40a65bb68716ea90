"""What bounds a verifier."""

from __future__ import annotations

from dataclasses import dataclass

from dsdq.bus.dead import Kept
from dsdq.bus.inbox import SLACK, Bounds


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds this verifier; durations in milliseconds. ``depth`` rounds of one session may wait at once."""

    slots: int
    place_wait_ms: int
    inbox: Bounds
    depth: int
    step_tokens: int
    lease_ms: int
    quiet_ms: int
    idle_ttl_ms: int
    closed_ttl_ms: int
    feed_entries: int
    dead_letters: Kept

    @property
    def most_waiting(self) -> int:
        """Return how many opens of one tenant may wait: honest devices publish no more."""
        return SLACK * self.inbox.entries
