"""Prompt look-up: what followed a text's last few tokens when they last occurred in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 3


class NgramIndex:
    """From each n-gram of a text (n from 1 to ``LONGEST``) to the place behind its last occurrence."""

    def __init__(self) -> None:
        self._behind: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def __len__(self) -> int:
        """Return how many tokens of the text are taken in."""
        return self._indexed

    def continuation(self, text: Sequence[int], window: int) -> tuple[int, ...]:
        """Return up to ``window`` tokens that followed the longest n-gram at the text's end that occurred before.

        The text is the one of the last call, grown.
        """
        self._index(text)
        for size in range(min(LONGEST, len(text)), 0, -1):
            place = self._behind.get(tuple(text[-size:]))
            if place is not None:
                return tuple(text[place : place + window])
        return ()

    def _index(self, text: Sequence[int]) -> None:
        """Take in the n-grams that have a token behind them; the text only ever grows."""
        for place in range(max(self._indexed, 1), len(text)):
            for size in range(1, min(LONGEST, place) + 1):
                self._behind[tuple(text[place - size : place])] = place
        self._indexed = len(text)
