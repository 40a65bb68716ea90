"""What a device guesses along with a stream: some tokens in a row now and then; its drafter has nothing else to do."""

from __future__ import annotations

from dsdq.policies.window.protocol import GUESS_EVERY_TOKENS, GUESSED_TOKENS
from dsdq.sim.guesses import Guesses


class Guessing:
    """The guesses of one text, which take ``draft_ms`` a token."""

    def __init__(self, guesses: Guesses, draft_ms: float) -> None:
        self._guesses, self.took_ms = guesses, GUESSED_TOKENS * draft_ms
        self._from, self._made_ms = 0, 0.0

    def begin(self, length: int, now_ms: float) -> None:
        """Guess what is committed behind so many tokens, from then on."""
        self._from, self._made_ms = length, now_ms + self.took_ms

    def judged(self, length: int, now_ms: float) -> tuple[int, int]:
        """Return how many tokens a text of ``length`` shows to have been guessed by now, and how many of them right.

        What is guessed behind a mistake is nobody's guess of this text.
        """
        if length < self._from + GUESSED_TOKENS or now_ms < self._made_ms:
            return 0, 0
        right = self._guesses.run(self._from, GUESSED_TOKENS)
        self.begin(max(self._from + GUESS_EVERY_TOKENS, length), now_ms)
        return min(right + 1, GUESSED_TOKENS), right
