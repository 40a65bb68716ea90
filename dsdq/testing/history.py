"""What is left of a session, and what can be found wrong with it: the words of :mod:`dsdq.testing.checker`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dsdq.contract import FinishReason
from dsdq.wire import Closed, Decode, Draft, Error, Message, Verdict


class Kind(StrEnum):
    """What can be wrong with a history."""

    NUMBERS = "the log has a hole"
    OPENING = "the log does not begin with an answer to this open"
    EPOCHS = "epochs do not rise with each owner"
    STALE_WORKER = "stale worker committed"
    AFTER_END = "the log goes on behind its end"
    UNFINISHED = "the session has no end"
    BASE = "an entry does not continue the text"
    DIGEST = "a digest is not that of the text"
    RECEIPT = "the receipt does not add up"
    ROUND_REUSED = "one round number names two contents"
    ROUND_UNKNOWN = "a round was answered that nobody published"
    ROUND_TWICE = "a round was answered twice"
    ROUND_ORDER = "a round was answered out of turn"
    ROUND_STALE = "a stale round was answered"
    ROUND_LOST = "a live round was passed over"
    UNFOUNDED = "a verdict commits what its round does not give"
    HEAD = "the head does not say what the log says"
    TEXT = "the text is not that of the quiet run"
    SHOWN = "the device showed something else"
    DEVICE = "device and log disagree about the end"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must never happen, with where it was seen."""

    kind: Kind
    session: str
    detail: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.session}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Logged:
    """One entry: its number in the log, the epoch of its writer, and its message."""

    number: int
    epoch: int
    message: Message


@dataclass(frozen=True, slots=True)
class Head:
    """What the head hash says at the end."""

    closed: bool
    epoch: int
    length: int
    entries: int


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What a device did: the rounds it published (repeats too, in order), the tokens it showed, how it ended."""

    published: Sequence[Draft | Decode]
    shown: Sequence[int]
    finish_reason: FinishReason | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """All that is left of one session. ``expected`` is the generated text of a run without faults."""

    session: str
    contract: bytes
    prompt: Sequence[int]
    entries: Sequence[Logged]
    head: Head
    device: DeviceRecord
    expected: Sequence[int]

    @property
    def end(self) -> Closed | Error | None:
        """Return the first entry that ends the session."""
        return next((one.message for one in self.entries if isinstance(one.message, Closed | Error)), None)

    @property
    def verdicts(self) -> list[Verdict]:
        """Return the verdicts in the order of the log."""
        return [one.message for one in self.entries if isinstance(one.message, Verdict)]
