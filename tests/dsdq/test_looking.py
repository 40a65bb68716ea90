"""Who asks while somebody looks is told what that look finds, and waits for no other."""

from __future__ import annotations

import asyncio

import pytest

from dsdq.errors import UnavailableError
from dsdq.looking import Shared


class Slow:
    """Something to look at that answers when it is let; ``looks`` counts."""

    def __init__(self) -> None:
        self.looks = 0
        self.answers = asyncio.Event()
        self.failure: Exception | None = None
        self.shared = Shared(self._look)

    async def _look(self) -> int:
        self.looks += 1
        number = self.looks
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return number

    async def asked(self, times: int) -> list[asyncio.Task[int]]:
        """Ask so many times at once and return when all wait."""
        asking = [asyncio.create_task(self.shared.get()) for _ in range(times)]
        for _ in range(3):
            await asyncio.sleep(0)
        return asking


async def test_who_asks_at_once_shares_a_look_and_who_comes_later_has_another() -> None:
    slow = Slow()
    asking = await slow.asked(5)
    slow.answers.set()
    assert await asyncio.gather(*asking) == [1] * 5
    assert await slow.shared.get() == 2


async def test_a_failure_is_everybodys_and_is_not_tried_again_by_each() -> None:
    slow = Slow()
    slow.failure = UnavailableError("redis: gone")
    asking = await slow.asked(5)
    slow.answers.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert found == [slow.failure] * 5
    assert slow.looks == 1
    slow.failure = None
    assert await slow.shared.get() == 2


async def test_who_goes_away_ends_no_look_of_others_and_the_last_one_does() -> None:
    slow = Slow()
    first, second = await slow.asked(2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    slow.answers.set()
    assert await second == 1
    slow.answers.clear()
    (alone,) = await slow.asked(1)
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    assert len(asyncio.all_tasks()) == 1
    slow.answers.set()
    assert await slow.shared.get() == 3
