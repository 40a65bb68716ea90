"""A session as this verifier holds it: what was agreed and decided, and what waits for the next step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dsdq.bus.inbox import Entry
from dsdq.bus.sessions import Owned
from dsdq.session import SessionState
from dsdq.stopping import StopFinder
from dsdq.wire import Decode, Draft


@dataclass(frozen=True, slots=True)
class Pending:
    """A round that waits: its inbox entry (to be acknowledged), its message, and when it came (monotonic seconds)."""

    entry: Entry
    message: Draft | Decode
    received_s: float


@dataclass(slots=True)
class Held:
    """One session. ``state`` is what was decided; its log follows as fast as Redis takes it.

    ``stops`` has taken in every decided token.
    """

    state: SessionState
    owned: Owned
    touched_s: float
    stops: StopFinder
    pending: deque[Pending] = field(default_factory=deque)

    @property
    def session(self) -> str:
        """Return the session's id."""
        return self.state.contract.session
