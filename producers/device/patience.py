"""How long a device waits for what."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from dsdq.errors import BusyError, SessionError
from dsdq.wire import ErrorCode


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a device waits, in milliseconds.

    For a place where verifiers are full, for an answer before it repeats (at most), for any answer at all, and for the
    whole text (None: for ever).
    """

    open_ms: int
    verdict_ms: int
    give_up_ms: int
    deadline_ms: int | None = None


class Clock:
    """One session's time, from now on, held against its patience. Moments are monotonic seconds."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._began_s = monotonic()

    def within(self, wait_ms: float) -> float:
        """Return the wait, cut to what is left until the deadline."""
        if self._patience.deadline_ms is None:
            return wait_ms
        return max(0.0, min(wait_ms, self._patience.deadline_ms - 1000 * (monotonic() - self._began_s)))

    def check(self, since_s: float, worker: str) -> None:
        """Return while there is time left to wait on for an answer of ``worker``, for which one waits ``since_s``.

        Raises:
            SessionError: there is not.
        """
        deadline_ms = self._patience.deadline_ms
        if deadline_ms is not None and 1000 * (monotonic() - self._began_s) >= deadline_ms:
            msg = f"expected the whole text within {deadline_ms / 1000:g} s, the time is over"
            raise SessionError(ErrorCode.DEADLINE, msg)
        waited_ms = 1000 * (monotonic() - since_s)
        if waited_ms >= self._patience.give_up_ms:
            msg = f"expected an answer from verifier {worker}, none came for {waited_ms / 1000:.0f} s"
            raise SessionError(ErrorCode.NO_ANSWER, msg)

    def check_busy(self, error: BusyError, asked_s: float, pause_ms: float) -> None:
        """Give up on a place where ``open_ms`` or the deadline would be over before the next try.

        Raises:
            BusyError: the one that was given.
        """
        waited_ms = 1000 * (monotonic() - asked_s)
        if pause_ms >= self.within(self._patience.open_ms - waited_ms):
            raise error
