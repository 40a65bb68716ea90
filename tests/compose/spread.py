"""Print how many of COUNT verifiers had a session while others asked for texts: ``spread.py - COUNT``."""

from __future__ import annotations

import asyncio
import sys

from dsdq.bus.connection import open_redis
from dsdq.bus.registry import Registry
from dsdq.settings import settings

LOOKS, PAUSE_S = 240, 0.25


async def main() -> None:
    redis = open_redis(settings().redis_url)
    busy = set[str]()
    for _ in range(LOOKS):
        served = [one for workers in (await Registry(redis).list_served()).values() for one in workers]
        busy |= {one.wid for one in served if one.sessions}
        if len(busy) >= int(sys.argv[1]):
            break
        await asyncio.sleep(PAUSE_S)
    await redis.aclose()
    print(len(busy))


asyncio.run(main())
