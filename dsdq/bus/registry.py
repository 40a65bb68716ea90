"""Which workers serve which model, how long their lease lasts, and how loaded they are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import msgpack
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.errors import FencedError


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as devices see it when they choose one; ``sessions``, ``steps`` and ``rows`` are as of its heartbeat.

    ``tokenizer`` is the name under which a device can load the target's tokenizer. ``rows / steps`` is the mean batch.
    """

    wid: str
    model: str
    revision: str
    fingerprint: str
    tokenizer: str
    numerics: str
    vocab_size: int
    context_tokens: int
    max_window: int
    slots: int
    sessions: int = 0
    steps: int = 0
    rows: int = 0


_FIELDS = tuple(field.name for field in fields(WorkerInfo))


class Registry:
    """Leases of workers, by model."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def join(self, info: WorkerInfo, lease_ms: int) -> None:
        """Show a worker to devices for ``lease_ms``."""
        with translated():
            await self._redis.sadd(keys.MODELS, info.model)
        await self._lease(info, lease_ms, "join")

    async def renew(self, info: WorkerInfo, lease_ms: int) -> None:
        """Prolong a lease and show the worker's present load.

        Raises:
            FencedError: the lease had lapsed. It is never renewed: the worker's sessions may be another's by now.
        """
        if await self._lease(info, lease_ms, "renew") == b"LAPSED":
            msg = f"lease of verifier {info.wid}: lapsed; it must stop and come back under a new id"
            raise FencedError(msg)

    async def leave(self, info: WorkerInfo) -> None:
        """Take a worker out of sight."""
        with translated():
            await self._redis.zrem(keys.workers(info.model), info.wid)
            await self._redis.hdel(keys.worker_infos(info.model), info.wid)

    async def list_models(self) -> list[str]:
        """Return the names of models that have been served, whether or not a worker is there now."""
        with translated():
            return sorted(name.decode() for name in await self._redis.smembers(keys.MODELS))

    async def list_workers(self, model: str) -> list[WorkerInfo]:
        """Return the workers of a model whose lease has not lapsed."""
        with translated():
            seconds, microseconds = await self._redis.time()
            now_ms = 1000 * seconds + microseconds // 1000
            alive = await self._redis.zrangebyscore(keys.workers(model), now_ms, "+inf")
            packed = await self._redis.hmget(keys.worker_infos(model), alive) if alive else []
        return [_unpack(one) for one in packed if one]

    async def _lease(self, info: WorkerInfo, lease_ms: int, how: str) -> Any:  # noqa: ANN401 - a reply of Redis
        where = [keys.workers(info.model), keys.worker_infos(info.model)]
        packed: bytes = msgpack.packb({name: getattr(info, name) for name in _FIELDS})
        with translated():
            return await scripts.call(self._redis, "lease", where, [info.wid, packed, lease_ms, how])


def _unpack(packed: bytes) -> WorkerInfo:
    known = msgpack.unpackb(packed)
    return WorkerInfo(**{name: value for name, value in known.items() if name in _FIELDS})
