"""Print how many verifiers there are and how many of them had sessions, while others ask for texts."""

from __future__ import annotations

import asyncio

from dsdq.bus.connection import open_redis
from dsdq.bus.registry import Registry
from dsdq.settings import settings

LOOKS, PAUSE_S = 60, 0.25


async def main() -> None:
    redis = open_redis(settings().redis_url)
    busy, there = set[str](), set[str]()
    for _ in range(LOOKS):
        served = [one for workers in (await Registry(redis).list_served()).values() for one in workers]
        there |= {one.wid for one in served}
        busy |= {one.wid for one in served if one.sessions}
        await asyncio.sleep(PAUSE_S)
    await redis.aclose()
    print(len(there), len(busy))


asyncio.run(main())
