"""What one session has asked for and not been told: what it continues, and what a verdict leaves standing. Pure.

A window's last token is followed by one of the target's own. So the first token of the window behind it is the device's
guess of that one: where it is right, the window stands and is verified from its second token on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from dsdq import digest
from dsdq.laws import DraftLaw
from dsdq.session import Transcript
from dsdq.wire import Decode, Draft, Verdict


class Flights:
    """Windows in flight behind ``transcript``, each beginning where the one before it ends; or grants, not both.

    Whoever takes a verdict into the transcript calls :meth:`land` next.
    """

    def __init__(self, session: str, transcript: Transcript) -> None:
        self._session = session
        self._transcript = transcript
        self._waiting: deque[Draft] = deque()
        self._grants: deque[Decode] = deque()
        self._digest = b""  # of the text behind all windows, while there are any
        self._branch = 0
        self._round = 0

    def __len__(self) -> int:
        """Return how many windows are in flight."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Draft]:
        """Give the windows in flight, oldest first."""
        return iter(self._waiting)

    @property
    def rounds(self) -> set[int]:
        """Return the rounds that wait for a verdict."""
        return {window.round for window in self._waiting} | {grant.round for grant in self._grants}

    @property
    def branch(self) -> int:
        """Return how often what was in flight was refuted."""
        return self._branch

    @property
    def granted(self) -> int:
        """Return how many tokens the target may still decode alone."""
        return max(0, _end(self._grants[-1]) - self._transcript.length) if self._grants else 0

    @property
    def length(self) -> int:
        """Return how long the text would be if every window stood, in tokens."""
        return self._waiting[-1].base + len(self._waiting[-1].tokens) if self._waiting else self._transcript.length

    def text(self) -> Sequence[int]:
        """Return prompt, committed tokens and all that is in flight: what the next window continues."""
        if not self._waiting:
            return self._transcript.tokens
        text = list(self._transcript.tokens[: self._waiting[0].base])
        for window in self._waiting:
            text += window.tokens
        return text

    def launch(self, tokens: tuple[int, ...], law: DraftLaw | None = None) -> Draft:
        """Return the request that puts ``tokens`` behind all that is in flight."""
        window = Draft(*self._next_place(), tokens=tokens, law=law)
        self._digest = digest.extend(window.digest, tokens)
        self._waiting.append(window)
        return window

    def grant(self, budget: int) -> Decode:
        """Return the request that lets the target decode alone from what is committed; no window may be in flight."""
        grant = Decode(*self._next_place(), budget=budget)
        self._grants.append(grant)
        return grant

    def land(self, verdict: Verdict) -> int:
        """Drop what a verdict answers or refutes, and return how many tokens nobody will judge.

        A verdict that rejects refutes all that follows; one that accepts everything refutes it where the target's own
        next token is not the one that was guessed.
        """
        while self._waiting and self._waiting[0].round <= verdict.last_round:
            self._waiting.popleft()
        while self._grants and _end(self._grants[0]) <= self._transcript.length:
            self._grants.popleft()
        if verdict.accepted < verdict.drafted or not self._stands():
            return self.abandon()
        return 0

    def abandon(self) -> int:
        """Drop all that is in flight, whatever its fate, and return how many tokens that were."""
        self._branch += 1
        wasted = sum(len(window.tokens) for window in self._waiting)
        self._waiting.clear()
        self._grants.clear()
        return wasted

    def _stands(self) -> bool:
        """Say whether the oldest window agrees with what was committed since."""
        if not self._waiting:
            return True
        window = self._waiting[0]
        overlap = tuple(self._transcript.tokens[window.base :][: len(window.tokens)])
        return window.tokens[: len(overlap)] == overlap

    def _next_place(self) -> tuple[str, int, int, int, bytes]:
        self._round += 1
        last = self._digest if self._waiting else self._transcript.digest
        return self._session, self._branch, self._round, self.length, last


def _end(grant: Decode) -> int:
    return grant.base + grant.budget
