"""Policies that measure no time: a fixed window or mode, stopping by confidence, and backing off when rejected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from dsdq.policies.window.escalation import Escalation
from dsdq.policies.window.protocol import Choice, Mode, Observation, Offer


@dataclass(frozen=True, slots=True)
class Static:
    """The same window always: the baseline of every paper (γ = 4 in most)."""

    uses_confidence: ClassVar[bool] = False
    uses_guesses: ClassVar[bool] = False
    window: int
    depth: int = 1
    _choice: Choice = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the choice, once."""
        object.__setattr__(self, "_choice", Choice(self.window, self.depth))

    def observe(self, observation: Observation) -> None:
        """Learn nothing."""

    def choose(self) -> Choice:
        """Return the fixed window and depth."""
        return self._choice

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        """Draft the whole window."""
        return True


GRANT_TOKENS = 1024
"""What a fixed mode lets the verifier decode before it is asked again: no stream is to pause for the network."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """The verifier always decodes alone: target-only, or with up to ``window`` tokens of its own drafter for a step."""

    uses_confidence: ClassVar[bool] = False
    uses_guesses: ClassVar[bool] = False
    mode: Mode
    window: int = 0
    _choice: Choice = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the choice, once."""
        object.__setattr__(self, "_choice", Choice(self.window, 1, self.mode, GRANT_TOKENS))

    def observe(self, observation: Observation) -> None:
        """Learn nothing."""

    def choose(self) -> Choice:
        """Return the mode."""
        return self._choice

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        """Draft nothing."""
        return False


@dataclass(frozen=True, slots=True)
class Threshold:
    """Draft until the drafter itself doubts: up to ``window`` tokens, none behind one of less than ``confidence``.

    A drafter that gives no confidence drafts the whole window.
    """

    uses_confidence: ClassVar[bool] = True
    uses_guesses: ClassVar[bool] = False
    confidence: float
    window: int
    depth: int = 1

    def observe(self, observation: Observation) -> None:
        """Learn nothing."""

    def choose(self) -> Choice:
        """Return the widest window."""
        return Choice(self.window, self.depth)

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        """Go on while the last token is likely enough."""
        return confidence >= self.confidence


class Backoff:
    """One token more after a window that stood, half of it after one of which less than half did (AIMD).

    What even short windows do not mend goes up the :class:`~dsdq.policies.window.escalation.Escalation`: another
    drafter, then none.
    """

    uses_confidence: ClassVar[bool] = False
    uses_guesses: ClassVar[bool] = True

    def __init__(self, offer: Offer, depth: int = 1) -> None:
        self._offer, self._depth = offer, depth
        self._window = min(4, offer.max_window)
        self._escalation = Escalation(offer)

    def observe(self, observation: Observation) -> None:
        """Take in what stood."""
        if observation.mode is Mode.SPECULATE and observation.drafted:
            if observation.accepted == observation.drafted:
                self._window = min(self._window + 1, self._offer.max_window)
            elif 2 * observation.accepted < observation.drafted:
                self._window = max(1, self._window // 2)
        self._escalation.observe(observation)

    def choose(self) -> Choice:
        """Return the window as it has become, or a grant where no drafter is of use."""
        return self._escalation.apply(Choice(self._window, self._depth))

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        """Draft the whole window."""
        return True
