"""What to do when drafts keep being rejected: another drafter, then none, and the way back."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from dsdq.policies.window.protocol import Choice, Mode, Observation, Offer

PATIENCE = 3
"""Rounds in a row without an accepted token that make a drafter useless; a round with one makes up for one."""

FIRST_PAUSE = 32
LONGEST_PAUSE = 1024
"""Tokens that the target decodes alone before a drafter is tried again: doubled each time that it is of no use."""

WORTHWHILE = 0.5
_GUESSES = 4


class Escalation:
    """A ladder: the device's drafters, best first, then target-only if that is on offer. It shortens no windows.

    The way back leads to the first drafter: after a pause, or as soon as the device's drafter has guessed more than
    half of the target's last tokens right. A drafter that earns ``PATIENCE`` accepted rounds makes the next pause short
    again.
    """

    def __init__(self, offer: Offer) -> None:
        self._drafters = offer.drafters
        self._has_target = Mode.TARGET_ONLY in offer.modes
        self.rung = 0
        self._rejected, self._earned = 0, 0
        self._pause, self._decoded = FIRST_PAUSE, 0
        self._guesses: deque[bool] = deque(maxlen=_GUESSES)

    @property
    def top(self) -> int:
        """Return the last rung."""
        return self._drafters - 1 + self._has_target

    def observe(self, observation: Observation) -> None:
        """Take in a verdict."""
        if observation.mode is Mode.TARGET_ONLY:
            self._wait(observation)
        elif observation.drafted and observation.drafter == self.rung:
            self._judge(observation)

    def apply(self, choice: Choice) -> Choice:
        """Return the choice with this rung's drafter, or a grant instead of it."""
        if self.rung >= self._drafters:
            return Choice(0, 1, Mode.TARGET_ONLY, FIRST_PAUSE)
        return replace(choice, drafter=self.rung)

    def _judge(self, observation: Observation) -> None:
        if observation.accepted:
            self._rejected = max(0, self._rejected - 1)
            self._earned += 1
            if self._earned >= PATIENCE:
                self._pause = FIRST_PAUSE
        else:
            self._give_up()

    def _give_up(self) -> None:
        """Count a round without an accepted token."""
        self._rejected, self._earned = self._rejected + 1, 0
        if self._rejected >= PATIENCE and self.rung < self.top:
            self.rung += 1
            self._rejected, self._decoded = 0, 0
            self._guesses.clear()

    def _wait(self, observation: Observation) -> None:
        if self.rung < self._drafters:
            if not observation.part:  # the drafter had nothing to say
                self._give_up()
            return
        self._decoded += observation.committed
        wrong = observation.guessed - observation.guessed_right
        self._guesses.extend([False] * wrong + [True] * observation.guessed_right)
        worthwhile = len(self._guesses) == _GUESSES and sum(self._guesses) > WORTHWHILE * _GUESSES
        if worthwhile or self._decoded >= self._pause:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self.rung, self._rejected, self._earned = 0, 0, 0
