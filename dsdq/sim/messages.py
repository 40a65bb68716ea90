"""What device and verifier tell each other, as far as time depends on it. Positions count a text's output from 0."""

from __future__ import annotations

from dataclasses import dataclass

from dsdq.policies.window import Choice


@dataclass(slots=True)
class Window:
    """A draft of positions ``base`` to ``end - 1`` on a branch; ``number`` counts a session's rounds.

    Times are of the clock; what is set later tells the device's story of it.
    """

    number: int
    branch: int
    base: int
    size: int
    choice: Choice
    draft_ms: float = 0.0
    in_flight: int = 0
    published_ms: float = 0.0
    arrived_ms: float = 0.0
    confidences: tuple[float, ...] = ()

    @property
    def end(self) -> int:
        """Return the position behind it."""
        return self.base + self.size


@dataclass(slots=True)
class Grant:
    """Leave to go on alone up to position ``end``; a ``fresh`` one begins a stream."""

    end: int
    choice: Choice
    fresh: bool


@dataclass(slots=True)
class Verdict:
    """What became of some rounds.

    ``keeps`` says that what is drafted behind them stands: all was accepted, and so is the guess of the target's own
    token. ``part`` counts the verdicts of a stream, ``windows`` are those that it answers; of a grant that it answers
    the verifier might have drafted ``most`` tokens. ``kv_token_ms`` were kept since the verdict before.
    """

    choice: Choice
    drafted: int
    accepted: int
    committed: int
    length: int
    queue_ms: float
    verify_ms: float
    batch_rows: int
    finished: bool
    max_window: int = 0
    keeps: bool = False
    part: int = 0
    most: int = 0
    kv_token_ms: float = 0.0
    windows: tuple[Window, ...] = ()


@dataclass(slots=True)
class Opened:
    """A session has its place; its device may draft so far."""

    max_window: int


Request = Window | Grant
Answer = Verdict | Opened
