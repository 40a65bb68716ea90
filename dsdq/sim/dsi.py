"""Speculation parallelism (DSI, arXiv 2405.14105): when a text's tokens are there if several targets work on it. Pure.

From the last token that only the target could give, a drafter goes on without waiting. Of the targets one always makes
the next token of the text as far as it is certain; each of the others takes the next ``lookahead`` drafted tokens as
soon as they are drafted and it is free, and says what the target has in the places behind them. The first wrong guess
that is found ends the branch: all that goes on behind it is dropped, and drafting begins anew behind the target's own
token. All targets have the keys and values of what the others took in.

So no text takes longer than if the target decoded alone: that is what the first target does. Nor does one take longer
than under speculative decoding with a window that is a multiple of ``lookahead``, if no draft has to wait for a target:
one makes the next token, and as many others are needed as passes begin while one lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from dsdq.sim.guesses import Guesses

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Speeds:
    """What a draft token takes, and a target's pass over so many positions of a text of so many tokens, in ms.

    Between passes a target's program takes ``between_ms``.
    """

    draft_ms: float
    pass_ms: Callable[[int, int], float]
    between_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Pass:
    """What one target did: from when until when, over how many positions."""

    started_ms: float
    ended_ms: float
    positions: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Tokens that became certain at a time: the text's ``length`` by then, and how many of them were drafts."""

    at_ms: float
    length: int
    committed: int
    judged: int
    accepted: int


@dataclass(slots=True)
class Course:
    """How a text came about, its times counted from when its prompt was fed; ``drafted`` tokens in all."""

    commits: list[Commit] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    drafted: int = 0

    @property
    def judged(self) -> int:
        """Return how many drafts were found right or wrong; the others were dropped unseen."""
        return sum(commit.judged for commit in self.commits)

    @property
    def first_ms(self) -> float:
        """Return when its first token was there."""
        return self.commits[0].at_ms

    @property
    def ended_ms(self) -> float:
        """Return when its last token was there."""
        return self.commits[-1].at_ms


def course(
    guesses: Guesses, output: int, speeds: Speeds, *, targets: int, lookahead: int, known_length: bool
) -> Course:
    """Return how a text of ``output`` tokens comes about; of one of known length nothing is drafted behind its end."""
    made, length, now_ms = Course(), 0, 0.0
    while length < output:
        left = output - length
        drafts = left - 1 if known_length else math.ceil(left / lookahead) * lookahead
        branch = _Branch(made, speeds, lookahead, (length, now_ms), (guesses.run(length, left), drafts))
        length, now_ms = branch.play(output, targets - 1)
    return made


class _Branch:
    """What goes on from where only the target could give the last token until that is so again.

    It begins at a length and a time; so many of its guesses are right in turn, and so many are drafted at most.
    """

    def __init__(
        self, made: Course, speeds: Speeds, lookahead: int, began: tuple[int, float], guessed: tuple[int, int]
    ) -> None:
        self._made, self._speeds, self._lookahead = made, speeds, lookahead
        self._base, self._began_ms = began
        self._right, self._drafts = guessed

    def play(self, output: int, others: int) -> tuple[int, float]:
        """Return text and time where it ends: at a wrong guess, or where the text has passed the drafter.

        So many ``others`` take drafts in while one target makes the next token.
        """
        tasks = self._tasks(others) if others else []
        length, now_ms, place = self._base, self._began_ms, 0
        alone = self._alone(length, now_ms)
        while length < output and length - self._base <= min(self._right, self._drafted(now_ms)):
            reached = length + 1
            if place < len(tasks) and tasks[place].ended_ms <= alone.ended_ms:
                now_ms, place = tasks[place].ended_ms, place + 1
                reached = self._base + min(place * self._lookahead, self._drafts, self._right) + 1
            else:
                now_ms = alone.ended_ms
            if reached > length:
                if now_ms > alone.started_ms:
                    self._made.passes.append(Pass(alone.started_ms, now_ms, 1))
                length = self._commit(length, min(reached, output), now_ms)
                alone = self._alone(length, now_ms)
        self._made.drafted += self._drafted(now_ms)
        self._made.passes += [
            Pass(one.started_ms, min(one.ended_ms, now_ms), one.positions) for one in tasks if one.started_ms < now_ms
        ]
        return length, now_ms

    def _alone(self, length: int, now_ms: float) -> Pass:
        """Return the pass that makes the next token of the text as it is."""
        started_ms = now_ms + self._speeds.between_ms
        return Pass(started_ms, started_ms + self._speeds.pass_ms(1, length), 1)

    def _tasks(self, others: int) -> list[Pass]:
        """Return what other targets do, up to the first that finds a wrong guess, and what begins before that ends."""
        free, tasks, ended_ms, over_ms = [self._began_ms] * others, list[Pass](), self._began_ms, math.inf
        for taken in range(0, self._drafts, self._lookahead):
            count = min(self._lookahead, self._drafts - taken)
            drafted_ms = self._began_ms + (taken + count) * self._speeds.draft_ms
            started_ms = max(drafted_ms, free[len(tasks) % others])
            if started_ms >= over_ms:
                break
            took_ms = self._speeds.pass_ms(count, self._base + taken)
            free[len(tasks) % others] = started_ms + took_ms + self._speeds.between_ms
            ended_ms = max(started_ms + took_ms, ended_ms)  # what comes before it is certain by then
            tasks.append(Pass(started_ms, ended_ms, count))
            if taken + count > self._right:
                over_ms = min(over_ms, ended_ms)
        return tasks

    def _commit(self, length: int, reached: int, now_ms: float) -> int:
        """Let the text be certain up to a length."""
        drafted, done = self._drafted(now_ms), length - self._base
        judged = max(min(reached - self._base, drafted) - done, 0)
        accepted = max(min(reached - self._base, drafted, self._right) - done, 0)
        self._made.commits.append(Commit(now_ms, reached, reached - length, judged, accepted))
        return reached

    def _drafted(self, now_ms: float) -> int:
        """Return how many tokens of the branch are drafted by now."""
        if not self._speeds.draft_ms:
            return self._drafts
        return min(int((now_ms - self._began_ms) / self._speeds.draft_ms + _ROUNDING), self._drafts)
