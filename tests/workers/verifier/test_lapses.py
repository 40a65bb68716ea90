"""What recovery does about several lapsed verifiers at once; whole takeovers are tested with real ones."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest

from dsdq.bus.registry import WorkerInfo
from dsdq.errors import DeniedError
from dsdq.tasks import end
from workers.verifier.recovery import Recovery

INFO = WorkerInfo("w1", "org/model", "r", "f", "org/model", "float32", 100, 2048, 64, 8)


class Claims:
    """A registry of which only claims are asked; ``stuck`` is a verifier whose claim is never answered."""

    def __init__(self, stuck: str = "", error: Exception | None = None) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self._stuck = stuck
        self._error = error

    async def claim(self, model: str, lapsed: str, claimant: str, ttl_ms: int) -> bool:
        del model, claimant, ttl_ms
        self.asked.put_nowait(lapsed)
        if self._error is not None:
            raise self._error
        if lapsed == self._stuck:
            await asyncio.Event().wait()
        return False


def recovery_with(registry: Any) -> Recovery:
    return Recovery(Mock(), registry, Mock(), Mock(), Mock(), Mock(), info=lambda: INFO, claim_ms=1000)


async def test_a_lost_answer_about_one_verifier_holds_up_no_other() -> None:
    claims = Claims(stuck="a")
    recovery = recovery_with(claims)
    running = asyncio.create_task(recovery.run())
    recovery.tell(["a", "b"])
    assert [await claims.asked.get() for _ in range(2)] == ["a", "b"]
    recovery.tell(["a", "b", "c"])  # the next heartbeat
    assert {await claims.asked.get() for _ in range(2)} == {"b", "c"}
    assert claims.asked.empty(), "what is at it is not begun twice"
    await end(running)


async def test_what_will_not_pass_ends_the_verifier() -> None:
    recovery = recovery_with(Claims(error=DeniedError("no right")))
    running = asyncio.create_task(recovery.run())
    while not running.done():
        recovery.tell(["a"])
        await asyncio.sleep(0)
    with pytest.raises(DeniedError, match="no right"):
        await running
