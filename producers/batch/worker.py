"""One batch worker: Redis, a runner, a desk, and the queue around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dsdq.bus import scripts
from dsdq.bus.batches import BatchStore
from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.files import FileBounds, FileStore
from dsdq.bus.rights import Role
from dsdq.bus.tenants import TenantStore
from dsdq.settings import settings
from producers.batch.asking import Asking
from producers.batch.desk import Desk
from producers.batch.queue import Tender, arq_of, check_address, work
from producers.openai.tenants import Tenants


async def serve(
    url: str, drafts: tuple[str, ...], sessions: int, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    """Do batches until ``stop``, ``sessions`` lines at once; ``ready`` is called when it begins.

    Raises:
        ConfigError: the address is that of a cluster, or none, or there is no such drafter.
        ModelError: the drafter cannot be loaded.
        DeniedError: the server is not fit, or this user may not do this.
        RedisUnavailableError: nothing answers.
    """
    check_address(url)
    chosen, redis = settings(), open_redis(url)
    tenants = TenantStore(redis)
    runner = Asking(url, chosen, Tenants(tenants), drafts)
    try:
        await check_server(redis, role=Role.GATEWAY, allow_unsafe=chosen.allow_unsafe_redis)
        await scripts.load(redis)
        await runner.load()
        desk, arq = Desk(BatchStore(redis, chosen.file_ttl_ms), runner, sessions), arq_of(redis)
        tender = Tender(desk, FileStore(redis, FileBounds.of(chosen)), tenants, arq, sessions)
        await work(tender, desk, arq, stop, ready)
    finally:
        await runner.aclose()
        await redis.aclose()
