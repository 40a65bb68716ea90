"""What one session has asked for and not been told: what it continues, and what a verdict leaves standing. Pure.

A window's last token is followed by one of the target's own. So the first token of the window behind it is the device's
guess of that one: where it is right, the window stands and is verified from its second token on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dsdq import digest
from dsdq.drafting import Proposal
from dsdq.laws import DraftLaw
from dsdq.session import Transcript
from dsdq.wire import Decode, Draft, Verdict


@dataclass(frozen=True, slots=True)
class Place:
    """Where a draft begins: the position of its first token, and the branch that it continues."""

    branch: int
    base: int


@dataclass(frozen=True, slots=True)
class Guessed:
    """How many tokens of the target's own the drafter guessed, how many of them right, and what that took."""

    tokens: int = 0
    right: int = 0
    guess_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Landed:
    """What a verdict meant for the windows behind it: the tokens in flight that nobody will judge now, and their guess.

    That is the first token behind the verdict's windows, a guess of the verdict's last one.
    """

    wasted: int = 0
    guessed: Guessed = Guessed()


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
    def place(self) -> Place:
        """Return the place behind all that is in flight."""
        return Place(self._branch, self.length)

    @property
    def granted(self) -> int:
        """Return how many tokens the target may still decode alone."""
        return max(0, self._grants[-1].end - self._transcript.length) if self._grants else 0

    @property
    def streaming(self) -> int | None:
        """Return how many tokens the verifier drafts for each step of what it was granted; None if that may change."""
        return self._grants[0].window if len(self._grants) == 1 else None

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

    def grant(self, budget: int, window: int = 0) -> Decode:
        """Return the request that lets the verifier decode alone from what is committed; no window may be in flight.

        It may draft ``window`` tokens for each of its steps.
        """
        grant = Decode(*self._next_place(), budget=budget, window=window)
        self._grants.append(grant)
        return grant

    def grant_of(self, verdict: Verdict) -> Decode | None:
        """Return the grant that a verdict answers, if it does; to be asked before it lands."""
        return next((grant for grant in self._grants if grant.round == verdict.first_round), None)

    def committed_since(self, place: Place) -> tuple[int, ...] | None:
        """Return the tokens that were committed behind ``place``; None if its branch was refuted."""
        return tuple(self._transcript.tokens[place.base :]) if place.branch == self._branch else None

    def standing(self, place: Place, proposal: Proposal) -> Proposal | None:
        """Return what of a proposal that was drafted for ``place`` can follow all that is in flight now.

        A verdict that came meanwhile and left it standing has committed the token that its first one is a guess of.
        None if it was refuted, or nothing of it is left: then the text as it is now is to be drafted for.
        """
        committed = self.committed_since(place)
        if not committed:
            return proposal if committed == () else None
        stands = proposal.tokens[: len(committed)] == committed and len(proposal.tokens) > len(committed)
        return proposal.tail(len(committed)) if stands else None

    def land(self, verdict: Verdict) -> Landed:
        """Drop what a verdict answers or refutes.

        A grant that is answered has taken the place of those before it. A verdict that rejects refutes all that
        follows; one that accepts everything refutes it where the target's own next token is not the one that was
        guessed. What a verifier drafted for a grant refutes nothing of ours.
        """
        rejects = verdict.accepted < verdict.drafted and self.grant_of(verdict) is None
        while self._waiting and self._waiting[0].round <= verdict.last_round:
            self._waiting.popleft()
        while self._grants and (self._grants[0].round < verdict.first_round or self._grants[0].end <= verdict.length):
            self._grants.popleft()
        if rejects:
            return Landed(self.abandon())
        if not self._waiting:
            return Landed()
        window = self._waiting[0]
        committed = tuple(self._transcript.tokens[window.base :])
        if window.tokens[: len(committed)] != committed:
            return Landed(self.abandon(), Guessed(len(committed)))
        return Landed(0, Guessed(len(committed), len(committed)))

    def abandon(self) -> int:
        """Drop all that is in flight, whatever its fate, and return how many tokens that were."""
        self._branch += 1
        wasted = sum(len(window.tokens) for window in self._waiting)
        self._waiting.clear()
        self._grants.clear()
        return wasted

    def _next_place(self) -> tuple[str, int, int, int, bytes]:
        self._round += 1
        last = self._digest if self._waiting else self._transcript.digest
        return self._session, self._branch, self._round, self.length, last
