"""Who serves, as a gateway tells its devices: one look for all who ask at once."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, Mock

from dsdq.bus.registry import Registry
from dsdq.errors import UnavailableError
from producers.gateway.errands import Served


async def test_all_who_ask_in_an_outage_are_told_after_one_attempt() -> None:
    over, registry = asyncio.Event(), Mock(spec=Registry)

    async def list_served(_: object) -> None:
        await over.wait()
        raise UnavailableError("redis: no answer")

    registry.list_served = AsyncMock(side_effect=list_served)
    served = Served(registry)
    asking = [asyncio.create_task(served.entries("")) for _ in range(4)] + [asyncio.create_task(served.entries("m"))]
    while not registry.list_served.call_count:
        await asyncio.sleep(0)
    over.set()
    assert {type(found) for found in await asyncio.gather(*asking, return_exceptions=True)} == {UnavailableError}
    assert registry.list_served.call_count == 1
