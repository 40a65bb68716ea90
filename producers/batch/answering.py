"""One line until there is an answer: what may pass is tried again, with pauses, for as long as the line is leased."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from dsdq.errors import (
    BusError,
    BusyError,
    ConfigError,
    DsdqError,
    ModelError,
    PromptError,
    QuotaError,
    RefusedError,
    SessionError,
)
from dsdq.policies.retry import Backoff
from dsdq.telemetry.logs import get_logger
from dsdq.wire import ErrorCode
from producers.batch.runner import Answer

log = get_logger("batch")

FIRST_MS, MOST_MS = 100.0, 10_000.0
MOST_FAILURES = 3
"""Times that a line may fail for a reason of its own, and leases of it that may lapse, before it is given up."""
_PASSING = (BusError, ConfigError, ModelError)
_PASSING_CODES = {ErrorCode.TENANT_DISABLED, ErrorCode.NO_ANSWER, ErrorCode.EXPIRED, ErrorCode.LOG_LOST}


def pause_of(error: DsdqError) -> float | None:
    """Return the least pause before a line is tried again, in milliseconds; None where it never helps."""
    match error:
        case PromptError():
            return None
        case QuotaError():
            return None if error.retry_after_ms < 0 else float(error.retry_after_ms)
        case BusyError():
            return float(error.retry_after_ms)
        case RefusedError():
            return 0.0 if error.code in _PASSING_CODES else None
        case _:
            return 0.0


def passes(error: DsdqError) -> bool:
    """Say whether what went wrong is no fault of the line: it is tried for as long as it is leased."""
    if isinstance(error, (RefusedError, SessionError)) and not isinstance(error, QuotaError):
        return error.code in _PASSING_CODES
    return isinstance(error, (QuotaError, *_PASSING))


async def answer_of(ask: Callable[[], Awaitable[Answer]], rng: random.Random) -> Answer:
    """Return what ``ask`` answers, in the end. Whoever waits for it bounds the time."""
    backoff, failures = Backoff(rng, FIRST_MS, MOST_MS), 0
    while True:
        try:
            return await ask()
        except DsdqError as error:
            pause_ms = pause_of(error)
            if pause_ms is None:
                return _refusal(error)
            failures += not passes(error)
            if failures >= MOST_FAILURES:
                return Answer.refused(500, str(error), error.code if isinstance(error, SessionError) else "internal")
            log.info("line waits", reason=str(error))
        except Exception as error:  # one line's bad luck must not end the others
            failures += 1
            log.exception("line failed")
            if failures >= MOST_FAILURES:
                return Answer.refused(500, f"{type(error).__name__}; the operator's log has more", "internal")
            pause_ms = 0.0
        await asyncio.sleep(max(pause_ms, backoff.next_ms()) / 1000)


def _refusal(error: DsdqError) -> Answer:
    if isinstance(error, QuotaError):
        return Answer.refused(429, str(error), "insufficient_quota")
    return Answer.refused(400, str(error), error.code if isinstance(error, RefusedError) else "invalid_request")
