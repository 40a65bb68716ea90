"""What verifiers say of their own work, each at a key of its own that expires soon."""

from __future__ import annotations

from dataclasses import dataclass, replace

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.connection import translated
from dsdq.bus.registry import Registry
from dsdq.telemetry.figures import Snapshot, unpack


@dataclass(frozen=True, slots=True)
class Reading:
    """What was said by those that serve, in the order of models and names; who is ``silent`` is of another release."""

    snapshots: tuple[Snapshot, ...] = ()
    silent: tuple[str, ...] = ()


class FiguresStore:
    """Writes and reads snapshots."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._registry = Registry(redis)
        self._models: list[str] = []

    async def write(self, snapshot: Snapshot) -> None:
        """Show a verifier's figures for as long as they say."""
        with translated():
            await self._redis.set(keys.worker_figures(snapshot.worker), snapshot.pack(), px=snapshot.ttl_ms)

    async def forget(self, worker: str) -> None:
        """Show a verifier's figures no longer."""
        with translated():
            await self._redis.delete(keys.worker_figures(worker))

    async def read(self) -> Reading:
        """Return the figures of all verifiers that take sessions, in two round trips; three where models are new.

        Raises:
            BusError: Redis cannot be reached, or does not allow it.
        """
        served = await self._registry.list_served(self._models)
        self._models = list(served)
        workers = [info.wid for infos in served.values() for info in sorted(infos, key=lambda one: one.wid)]
        pipeline = self._redis.pipeline(transaction=False)  # in a cluster the keys lie apart
        for wid in workers:
            pipeline.get(keys.worker_figures(wid))
            pipeline.pttl(keys.worker_figures(wid))
        with translated():
            answers = await pipeline.execute() if workers else []
        read = [_read(packed, left_ms) for packed, left_ms in zip(answers[::2], answers[1::2], strict=True)]
        silent = tuple(wid for wid, one in zip(workers, read, strict=True) if one is None)
        return Reading(tuple(one for one in read if one is not None), silent)


def _read(packed: bytes | None, left_ms: int) -> Snapshot | None:
    """Return a snapshot with its age, by how long Redis will keep it."""
    snapshot = None if packed is None else unpack(packed)
    return None if snapshot is None else replace(snapshot, age_s=max(0.0, (snapshot.ttl_ms - left_ms) / 1000))
