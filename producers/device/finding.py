"""Find a verifier for a new session: of the right model, that speaks a version which this device speaks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import cast

from redis.asyncio import Redis

from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.errors import ConfigError, RedisUnavailableError
from dsdq.policies.routing import Loaded, Policy
from dsdq.versions import SPOKEN, agreed

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """A verifier, and the version to open a session with: all verifiers of its model speak it, so any may inherit."""

    worker: WorkerInfo
    version: int


class Finder:
    """Asks the registry; waits ``patience_ms`` for a verifier to appear, ``outage_ms`` for Redis to come back."""

    def __init__(
        self, redis: Redis, route: Policy[Loaded], *, where: str, patience_ms: float, outage_ms: float
    ) -> None:
        self._registry = Registry(redis)
        self._route = route
        self._where = where
        self._patience_ms = patience_ms
        self._outage_ms = outage_ms

    async def find(self, model: str | None, beginning: bytes, version: int | None = None) -> Found:
        """Return a verifier of ``model`` (or of the only model served), one that speaks ``version`` if that is given.

        Raises:
            ConfigError: there is none, or several models are served and none was named.
        """
        for _ in range(max(1, round(self._patience_ms / 1000 / POLL_S))):
            workers = await self._list(model)
            served = sorted({worker.model for worker in workers})
            if len(served) > 1:
                msg = f"expected a model's name, since several are served: {', '.join(served)}"
                raise ConfigError(msg)
            if (found := self._choose(workers, beginning, version)) is not None:
                return found
            await asyncio.sleep(POLL_S)
        wanted = f"a verifier of {model}" if model else "a verifier"
        spoken = ", ".join(map(str, SPOKEN if version is None else (version,)))
        msg = (
            f"expected {wanted} that speaks version {spoken} of the protocol at {self._where}, found none; "
            "start one with `dsdq verifier --redis URL`"
        )
        raise ConfigError(msg)

    def _choose(self, workers: list[WorkerInfo], beginning: bytes, version: int | None) -> Found | None:
        wanted = agreed(worker.versions for worker in workers) if version is None else version
        able = [one for one in workers if (agreed([one.versions]) if wanted is None else wanted in one.versions)]
        if not able:
            return None
        worker = cast("WorkerInfo", self._route(able, beginning))
        chosen = agreed([worker.versions]) if wanted is None else wanted
        return None if chosen is None else Found(worker, chosen)

    async def _list(self, model: str | None) -> list[WorkerInfo]:
        """Return the verifiers of ``model``, or of all models; wait while Redis is away: it was there when we began."""
        began_s = monotonic()
        while True:
            try:
                names = [model] if model else await self._registry.list_models()
                return [worker for name in names for worker in await self._registry.list_workers(name)]
            except RedisUnavailableError:
                if 1000 * (monotonic() - began_s) >= self._outage_ms:
                    raise
                await asyncio.sleep(POLL_S)
