"""When to ask again: a timeout that follows the observed round trips, and pauses that grow and scatter. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

SRTT_WEIGHT, VAR_WEIGHT, VARS = 1 / 8, 1 / 4, 4

LEAST_TIMEOUT_MS = 250
"""A device waits so long at least before it asks again."""

RETRY_MS, LONGEST_RETRY_MS = 50, 1_000
"""Pauses of a device whose message could not be left with anybody: the first one, and the longest."""


class AnswerTimeout:
    """How long to wait for an answer before it is asked for again (RFC 6298), in milliseconds.

    Args:
        least_ms: never shorter: an answer that is a little late must not be asked for twice.
        most_ms: never longer, and so long before the first answer.
    """

    def __init__(self, least_ms: float, most_ms: float) -> None:
        self._least_ms = least_ms
        self._most_ms = most_ms
        self._mean_ms: float | None = None
        self._var_ms = 0.0

    def observe(self, round_trip_ms: float) -> None:
        """Take in the time that one answer took; that of a repeated request tells nothing (Karn's rule)."""
        if self._mean_ms is None:
            self._mean_ms, self._var_ms = round_trip_ms, round_trip_ms / 2
            return
        self._var_ms += VAR_WEIGHT * (abs(round_trip_ms - self._mean_ms) - self._var_ms)
        self._mean_ms += SRTT_WEIGHT * (round_trip_ms - self._mean_ms)

    @property
    def ms(self) -> float:
        """Return the timeout."""
        if self._mean_ms is None:
            return self._most_ms
        return min(max(self._mean_ms + VARS * self._var_ms, self._least_ms), self._most_ms)


@dataclass(slots=True)
class Backoff:
    """Pauses between tries: up to ``first_ms``, twice as long each time, never above ``most_ms``, with full jitter.

    Without jitter, all who met the same outage come back at the same moment.
    """

    rng: random.Random
    first_ms: float
    most_ms: float
    tries: int = 0

    def next_ms(self) -> float:
        """Return the next pause."""
        bound = min(self.most_ms, self.first_ms * 2.0**self.tries)
        self.tries = min(self.tries + 1, 32)
        return self.rng.uniform(0.0, bound)

    def reset(self) -> None:
        """Begin again with short pauses."""
        self.tries = 0
