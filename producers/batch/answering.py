"""One line until there is an answer: what may pass is tried again, with pauses, for as long as the line is leased."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from dsdq.errors import BusyError
from dsdq.policies.retry import Backoff
from dsdq.telemetry.logs import get_logger
from producers.batch.runner import Answer
from producers.openai.errors import ApiError, failure

log = get_logger("batch")

FIRST_MS, MOST_MS = 100.0, 10_000.0
MOST_FAILURES = 3
"""Times that a line may fail for a reason of its own, and leases of it that may lapse, before it is given up."""


async def answer_of(ask: Callable[[], Awaitable[Answer]], rng: random.Random) -> Answer:
    """Return what ``ask`` answers, in the end. Whoever waits for it bounds the time."""
    backoff, failures = Backoff(rng, FIRST_MS, MOST_MS), 0
    while True:
        try:
            return await ask()
        except BusyError as error:
            pause_ms = float(error.retry_after_ms)
            log.info("line waits", reason=str(error))
        except Exception as error:  # noqa: BLE001 - one line's bad luck must not end the others
            failures, pause_ms = failures + 1, 0.0
            if failures >= MOST_FAILURES:
                return Answer.of(error if isinstance(error, ApiError) else failure(error))
            log.warning("line failed", reason=str(error))
        await asyncio.sleep(max(pause_ms, backoff.next_ms()) / 1000)
