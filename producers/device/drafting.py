"""One session's drafters at work behind what is in flight: one draft at a time, in a thread if it takes long.

While a draft is made, the event loop says what is committed behind its place, and the drafter asks after each token
whether to go on. What passes between their threads is one attribute, which the loop sets and the drafter reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from time import perf_counter

from dsdq.drafting import DraftSession, Proposal
from dsdq.policies.window.protocol import GUESS_EVERY_TOKENS, GUESSED_TOKENS, WindowPolicy
from dsdq.tasks import end
from producers.device.flights import Flights, Guessed, Place


@dataclass(frozen=True, slots=True)
class Hand:
    """One of a session's drafters. ``briefly`` is its word that it needs no thread."""

    session: DraftSession
    briefly: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A proposal, and the time in which so many tokens were ``drafted``: some may have been committed meanwhile.

    ``drafter`` says whose it is, ``unknown`` how many more it was to draft and could not.
    """

    proposal: Proposal
    drafted: int = 0
    draft_ms: float = 0.0
    drafter: int = 0
    unknown: int = 0


class Underway:
    """A draft that is being made. To its drafter it is the :class:`~dsdq.drafting.GoOn`.

    ``committed`` are the tokens committed behind its place; None once nobody wants the draft any more. ``stopped`` says
    that it ended because it was to.
    """

    def __init__(self, place: Place, policy: WindowPolicy) -> None:
        self.place = place
        self.uses_confidence = policy.uses_confidence
        self.committed: tuple[int, ...] | None = ()
        self.stopped = False
        self._policy = policy

    def __call__(self, tokens: Sequence[int], confidence: float | None) -> bool:
        """Go on while the draft may stand and the policy wants more of it."""
        committed = self.committed  # read once: the loop may set it at any time
        stands = committed is not None and tuple(tokens[: len(committed)]) == committed[: len(tokens)]
        self.stopped = not (stands and (confidence is None or self._policy.wants_more(confidence, len(tokens))))
        return not self.stopped


class Drafting:
    """Drafts with ``hands``, the preferred one first, as ``policy`` wants."""

    def __init__(self, hands: Sequence[Hand], policy: WindowPolicy, flights: Flights) -> None:
        self._hands, self._policy, self._flights = hands, policy, flights
        self._current: tuple[Underway, asyncio.Future[Made]] | None = None
        self._dropped: asyncio.Future[Made] | None = None  # the latest; its thread may still be at its last token
        self._next_guess = 0  # the shortest text behind which to guess again

    def begin(self, window: int, drafter: int = 0) -> asyncio.Future[Made]:
        """Draft up to ``window`` tokens behind all that is in flight, or go on with the draft that there is."""
        if self._current is None:
            self._current = self._begun(self._flights.text(), window, drafter)
        return self._current[1]

    def take(self) -> Made | None:
        """Return what of the draft, which is done, can follow all that is in flight now; None if nothing can.

        Raises what the drafter raised.
        """
        if self._current is None:
            return None
        (underway, making), self._current = self._current, None
        made = making.result()
        proposal = self._flights.standing(underway.place, made.proposal)
        return None if proposal is None else replace(made, proposal=proposal)

    def follow(self) -> None:
        """Tell the draft under way what was committed; drop it if that refutes it."""
        if self._current is not None:
            underway, _ = self._current
            underway.committed = self._flights.committed_since(underway.place)
            if underway.committed is None:
                self.drop()

    def drop(self) -> None:
        """Let the draft under way end with the token that it is at; its result is of no use."""
        if self._current is not None:
            (underway, self._dropped), self._current = self._current, None
            underway.committed = None

    # While the verifier streams

    def guess(self) -> None:
        """Guess what the verifier commits next, unless a guess is under way or was made just now."""
        if self._current is None and self._flights.length >= self._next_guess:
            self._next_guess = self._flights.length + GUESS_EVERY_TOKENS
            self._current = self._begun(tuple(self._flights.text()), GUESSED_TOKENS)  # a copy: the text grows meanwhile

    def guessed(self) -> Guessed:
        """Return how good the guess was, once it is made and verdicts have told of all of it, or of its first mistake.

        What is guessed behind a mistake is nobody's guess of this text.
        """
        if self._current is None or not self._current[1].done():
            return Guessed()
        underway, making = self._current
        made, committed = making.result(), self._flights.committed_since(underway.place) or ()
        tokens = made.proposal.tokens
        right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tokens, committed, strict=False)))
        if right == len(committed) < len(tokens):
            return Guessed()
        self._current = None
        judged = min(right + 1, len(tokens))
        return Guessed(judged, right, made.draft_ms * judged / len(tokens)) if tokens else Guessed()

    # Making

    def _begun(self, text: Sequence[int], window: int, drafter: int = 0) -> tuple[Underway, asyncio.Future[Made]]:
        underway = Underway(self._flights.place, self._policy)
        if not self._hands[drafter].briefly:
            return underway, asyncio.create_task(self._make_in_thread(text, window, underway, drafter, self._dropped))
        making = asyncio.get_running_loop().create_future()
        making.set_result(self._draft(text, window, underway, drafter))
        return underway, making

    async def _make_in_thread(
        self, text: Sequence[int], window: int, underway: Underway, drafter: int, before: asyncio.Future[Made] | None
    ) -> Made:
        if before is not None:
            await before
        if underway.committed is None:
            return Made(Proposal(()))
        return await asyncio.to_thread(self._draft, text, window, underway, drafter)

    def _draft(self, text: Sequence[int], window: int, underway: Underway, drafter: int) -> Made:
        began_s = perf_counter()
        proposal = self._hands[drafter].session.propose(text, window, underway)
        drafted = len(proposal.tokens)
        unknown = 0 if underway.stopped else window - drafted
        return Made(proposal, drafted, 1000 * (perf_counter() - began_s), drafter, unknown)

    async def end(self) -> None:
        """End what still runs, but for the token that the drafter is at: nobody waits for that."""
        self.drop()
        if self._dropped is not None:
            await end(self._dropped)
