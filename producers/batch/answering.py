"""One line until there is an answer: what may pass is tried again, with pauses, for as long as the line is leased."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from dsdq.errors import (
    BusyError,
    ConfigError,
    DeniedError,
    DsdqError,
    FencedError,
    GoneError,
    ModelError,
    PromptError,
    QuotaError,
    RedisUnavailableError,
    RefusedError,
    SessionError,
)
from dsdq.policies.retry import Backoff
from dsdq.telemetry.logs import get_logger
from producers.batch.runner import Answer

log = get_logger("batch")

FIRST_MS, MOST_MS = 100.0, 10_000.0
MOST_FAILURES = 3
"""Times that a line may fail for a reason of its own, and leases of it that may lapse, before it is given up."""
_PASSING = (BusyError, RedisUnavailableError, GoneError, FencedError, ConfigError, ModelError)


def pause_of(error: DsdqError) -> float | None:
    """Return the least pause before a line is tried again, in milliseconds; None where it never helps."""
    match error:
        case PromptError():
            return None
        case QuotaError():
            return None if error.retry_after_ms < 0 else float(error.retry_after_ms)
        case BusyError():
            return float(error.retry_after_ms)
        case DeniedError() | RefusedError():
            return None
        case _:
            return 0.0


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
            failures += not isinstance(error, (QuotaError, *_PASSING))
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
