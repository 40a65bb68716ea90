"""What a device tells its window policy, and what the policy answers: one protocol for all of them. Pure.

How a device uses it::

    policy = load_policy("optimal", Offer(max_window=contract.max_window, max_depth=4, modes={...}))
    choice = policy.choose()      # before every window and every grant; asking changes nothing
    policy.wants_more(...)        # after each drafted token but the last, if the policy uses confidences
    policy.observe(observation)   # once for every verdict, in the order of the text

- ``SPECULATE``: the device drafts ``window`` tokens and publishes them while fewer than ``depth`` windows are drafted
  or unanswered; depth 1 waits for each verdict. Stale windows have no verdict and are not observed.
- ``TARGET_ONLY`` and ``COLOCATED``: the device grants ``budget`` tokens and reads the stream. Once half of a grant is
  used up it grants again, from where the text is by then, so that the stream does not pause, unless drafting is chosen
  by then; so it does as soon as a window is chosen that is :func:`far_from` the grant's. Windows that are on their way
  when the mode changes are answered or stale before the grant is published; drafting begins again when the grant is
  used up.
- While a grant streams, a device whose drafter has nothing else to do drafts along with the text, if the policy
  ``uses_guesses``, and reports how often it guessed the target's next token (``guessed``, ``guessed_right``): so a
  policy sees that drafting would pay again and loses nothing. Likewise ``link_ms`` tells of the network where no round
  trip does.

A policy belongs to one session and has no clock: time is what observations say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dsdq.contract import MAX_WINDOW
from dsdq.errors import ConfigError

MAX_DEPTH = 8
"""Windows of one session that a verifier holds at most."""

MAX_DRAFTERS = 8

GUESSED_TOKENS, GUESS_EVERY_TOKENS = 4, 8
"""A policy needs some guesses along with a stream, not all: where drafter and verifier share cores, each takes time."""

RENEW = 0.5
"""So much of a grant is left when the next one is asked for."""


class Mode(StrEnum):
    """Who drafts: the device, nobody, or the verifier itself."""

    SPECULATE = "speculate"
    TARGET_ONLY = "target-only"
    COLOCATED = "co-located"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to ask for next.

    Attributes:
        window: tokens drafted per round, by the device or, co-located, by the verifier; 0 in target-only.
        depth: windows drafted or unanswered at a time, at least 1; 1 unless the device drafts.
        mode: who drafts.
        budget: tokens granted at once in target-only and co-located mode, 0 otherwise.
        drafter: which of the device's drafters, 0 for the preferred one.
    """

    window: int
    depth: int = 1
    mode: Mode = Mode.SPECULATE
    budget: int = 0
    drafter: int = 0


PAUSE = Choice(0, 1, Mode.TARGET_ONLY, budget=16)
"""Instead of drafts that the verifier does not ask for; when the grant is used up, it may ask for them again."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one verdict showed: counts in tokens, durations in milliseconds.

    Attributes:
        drafted: draft tokens that the verdict judged; its windows may have been merged.
        accepted: how many of them stood.
        draft_ms: what drafting the judged windows took on the device, the tokens among them that had been committed
            before; 0 where the device did not draft.
        draft_token_ms: what the device takes to draft one token, 0 where it did not draft.
        round_trip_ms: from publishing the request until the verdict was read; for a later verdict of the same stream,
            since the verdict before it.
        queue_ms: how long the round waited at the verifier.
        verify_ms: how long its forward pass took, and what the verifier drafted for it before.
        committed: tokens that the verdict committed.
        mode: what had been asked for.
        time_ms: when the verdict was read, by any clock of the device that never goes back.
        part: 0 for the first verdict of a draft or of a stream of grants, counting up within a stream.
        in_flight: windows of this session that were unanswered when this one was published.
        max_window: the largest window that the verifier asks for next.
        batch_rows: sessions of the same forward pass.
        link_ms: a round trip of this device and Redis alone (the reply to a publish) that was measured since the last
            verdict, None if none was.
        confidences: the drafter's probability of each of ``drafted`` tokens, empty where it gives none or the policy
            does not use them.
        guessed: committed tokens beside the judged ones that the device's drafter tried to guess: those of a stream
            that it drafted along with; behind a draft that stood, the last token, if the next window begins with a
            guess of it.
        guessed_right: how many of them it guessed.
        guess_ms: what guessing those of a stream took.
        drafter: which of the device's drafters drafted or guessed.
        wanted: how many tokens could have been drafted, by the verifier or else the device; 0 where nobody was to. What
            came less than that, the drafter did not know: a device's that knows nothing lets the target decode alone.
    """

    drafted: int
    accepted: int
    draft_ms: float
    round_trip_ms: float
    queue_ms: float
    verify_ms: float
    committed: int = 1
    draft_token_ms: float = 0.0
    mode: Mode = Mode.SPECULATE
    time_ms: float = 0.0
    part: int = 0
    in_flight: int = 0
    max_window: int = MAX_WINDOW
    batch_rows: int = 1
    link_ms: float | None = None
    confidences: tuple[float, ...] = ()
    guessed: int = 0
    guessed_right: int = 0
    guess_ms: float = 0.0
    drafter: int = 0
    wanted: int = 0

    @property
    def silent(self) -> bool:
        """Say whether it answers a device that was to draft and knew nothing: the target decoded alone."""
        return self.mode is Mode.TARGET_ONLY and self.wanted > 0


@dataclass(frozen=True, slots=True)
class Offer:
    """What a session may choose from: bounds of contract, device and verifier.

    Attributes:
        max_window: tokens, the contract's bound.
        max_depth: windows in flight, at most.
        modes: who may draft.
        drafters: how many drafters the device has.
    """

    max_window: int
    max_depth: int = 1
    modes: frozenset[Mode] = frozenset({Mode.SPECULATE})
    drafters: int = 1

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ConfigError: one of them is not what was expected.
        """
        _within("max_window", self.max_window, MAX_WINDOW)
        _within("max_depth", self.max_depth, MAX_DEPTH)
        _within("drafters", self.drafters, MAX_DRAFTERS)
        if not self.modes:
            msg = "modes: expected at least one, got none"
            raise ConfigError(msg)


class WindowPolicy(Protocol):
    """Chooses window, depth and mode from what was observed."""

    @property
    def uses_confidence(self) -> bool:
        """Say whether :meth:`wants_more` is to be asked: for it the drafter computes the probability of each token."""
        ...

    @property
    def uses_guesses(self) -> bool:
        """Say whether guesses along with a stream tell it something: it goes back to drafting where they are good."""
        ...

    def observe(self, observation: Observation) -> None:
        """Take in what one verdict showed."""
        ...

    def choose(self) -> Choice:
        """Return what to ask for next. The answer stays the same until the next observation."""
        ...

    def wants_more(self, confidence: float, drafted: int) -> bool:
        """Say whether to go on drafting after ``drafted`` tokens, the last of them with this probability.

        The chosen window ends a draft in any case. This is asked in the drafter's thread, while verdicts are observed
        in another.
        """
        ...


def far_from(window: int, granted: int) -> bool:
    """Say whether a stream's window is so far from the granted one that it is worth a message."""
    return abs(window - granted) > max(1, granted // 4)


def _within(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        msg = f"{name}: expected 1 to {most}, got {value}"
        raise ConfigError(msg)
