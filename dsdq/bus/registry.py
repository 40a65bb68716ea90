"""Which workers serve which model, how long their lease lasts, and how loaded they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgpack
from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import keeper_of, translated
from dsdq.errors import FencedError, WireError
from dsdq.telemetry.logs import get_logger

log = get_logger("registry")


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as devices see it when they choose one; what changes is as of its heartbeat.

    ``tokenizer`` is the name under which a device can load the target's tokenizer. ``rows / steps`` is the mean batch,
    ``row_ms`` the time that a session's round took of late: workers differ in speed. One that is ``leaving`` takes no
    new session. ``versions`` are those of the protocol that it speaks. One that ``drafts`` does so itself in
    grants that ask for it (co-located); a worker that does not know of that does not say so.
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
    row_ms: float = 0.0
    leaving: bool = False
    versions: tuple[int, ...] = (1,)
    drafts: bool = False


_FIELDS = tuple(field.name for field in fields(WorkerInfo))


class Registry:
    """Leases of workers, by model."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def join(self, info: WorkerInfo, lease_ms: int) -> list[str]:
        """Show a worker to devices for ``lease_ms``; return the workers of its model whose lease has lapsed."""
        await self.announce(info.model)
        return await self._lease(info, lease_ms, "join")

    async def announce(self, model: str) -> None:
        """Name a model among those served; again from time to time, for its last worker may just have left."""
        with translated():
            await self._redis.sadd(keys.MODELS, model)

    async def renew(self, info: WorkerInfo, lease_ms: int) -> list[str]:
        """Prolong a lease and show the worker's present load; return the workers whose lease has lapsed.

        Raises:
            FencedError: the lease had lapsed. It is never renewed: the worker's sessions may be another's by now.
        """
        return await self._lease(info, lease_ms, "renew")

    async def hand_over(self, info: WorkerInfo) -> None:
        """End a lease now, so that others take over what the worker leaves."""
        with translated():
            await self._redis.zadd(keys.workers(info.model), {info.wid: 0}, xx=True)

    async def claim(self, model: str, lapsed: str, claimant: str, ttl_ms: int) -> bool:
        """Ask to be the one that takes over a lapsed worker's sessions; the claim ends after ``ttl_ms``."""
        claim = keys.recovery_claim(model, lapsed)
        with translated():
            if await self._redis.set(claim, claimant, nx=True, px=ttl_ms):
                return True
            # It may be one that was made before and whose answer was lost.
            return bool(await self._redis.get(claim) == claimant.encode())

    async def release(self, model: str, lapsed: str) -> None:
        """End a claim."""
        with translated():
            await self._redis.delete(keys.recovery_claim(model, lapsed))

    async def forget(self, model: str, wid: str) -> None:
        """Take a worker out of the registry, and its model with the last one."""
        with translated():
            await self._redis.zrem(keys.workers(model), wid)
            await self._redis.hdel(keys.worker_infos(model), wid)
            if not await self._redis.zcard(keys.workers(model)):
                await self._redis.srem(keys.MODELS, model)

    async def has_lapsed(self, model: str, wid: str) -> bool:
        """Say whether a worker's lease has lapsed, or nobody knows of it any more."""
        leases = keys.workers(model)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zscore(leases, wid)
        pipeline.execute_command("TIME", **await keeper_of(self._redis, leases))
        with translated():
            ends_ms, (seconds, microseconds) = await pipeline.execute()
        return ends_ms is None or ends_ms < 1000 * seconds + microseconds // 1000

    async def list_models(self) -> list[str]:
        """Return the names of the models that have workers, whether or not they live."""
        with translated():
            return sorted(name.decode() for name in await self._redis.smembers(keys.MODELS))

    async def list_workers(self, model: str) -> list[WorkerInfo]:
        """Return the workers of a model that take sessions: their lease has not lapsed, and they are not leaving."""
        found, _ = await self._look([model], names=False)
        return found[model]

    async def list_served(self, expected: Collection[str] = ()) -> dict[str, list[WorkerInfo]]:
        """Return the workers of every model, as :meth:`list_workers` gives them.

        It takes one round trip if no other models are served than ``expected``, two if there are.
        """
        found, served = await self._look(expected, names=True)
        missing = served - found.keys()
        if missing:
            found |= (await self._look(missing, names=False))[0]
        return {model: found[model] for model in sorted(served)}

    async def _look(self, models: Collection[str], *, names: bool) -> tuple[dict[str, list[WorkerInfo]], set[str]]:
        """Return the workers of some models, and the names of all if they are wanted, in one round trip."""
        while True:
            where = {model: await keeper_of(self._redis, keys.workers(model)) for model in models}
            pipeline = self._redis.pipeline(transaction=False)
            if names:
                pipeline.smembers(keys.MODELS)
            for model, keeper in where.items():
                pipeline.zrangebyscore(keys.workers(model), "(0", "+inf", withscores=True)
                pipeline.execute_command("TIME", **keeper)  # its method refuses for a cluster
                pipeline.hvals(keys.worker_infos(model))
            with translated():
                answers: list[Any] = await pipeline.execute()
            served = {name.decode() for name in answers.pop(0)} if names else set()
            # What a cluster has moved meanwhile was judged by the clock of where it had been.
            if where == {model: await keeper_of(self._redis, keys.workers(model)) for model in models}:
                return {model: _alive(*answers[3 * at :][:3]) for at, model in enumerate(models)}, served

    async def _lease(self, info: WorkerInfo, lease_ms: int, how: str) -> list[str]:
        where = [keys.workers(info.model), keys.worker_infos(info.model)]
        with translated():
            answer = await scripts.call(self._redis, "lease", where, [info.wid, pack_info(info), lease_ms, how])
        if answer == b"LAPSED":
            msg = f"lease of verifier {info.wid}: lapsed; it must come back under a new id"
            raise FencedError(msg)
        return [wid.decode() for wid in answer]


def _alive(granted: Sequence[tuple[bytes, float]], clock: tuple[int, int], packed: Sequence[bytes]) -> list[WorkerInfo]:
    """Return who takes sessions, by leases, the time in seconds and microseconds, and registry entries."""
    now_ms = 1000 * clock[0] + clock[1] // 1000
    alive = {wid.decode() for wid, ends_ms in granted if ends_ms >= now_ms}
    return [info for info in readable_infos(packed) if info.wid in alive and not info.leaving]


def pack_info(info: WorkerInfo) -> bytes:
    """Return a registry entry as it lies in Redis."""
    packed: bytes = msgpack.packb({name: getattr(info, name) for name in _FIELDS})
    return packed


def unpack_info(packed: bytes) -> WorkerInfo:
    """Return the registry entry that was packed, without what is not known here.

    Raises:
        WireError: it is none, or lacks what has to be known here: one of another release.
    """
    try:
        known = msgpack.unpackb(packed)
        told = {name: known[name] for name in _FIELDS if name in known}
        return WorkerInfo(**told | {"versions": tuple(told.get("versions", (1,)))})
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"expected a registry entry, got {type(error).__name__}: {str(error)[:100]}") from None


def readable_infos(packed: Iterable[bytes]) -> list[WorkerInfo]:
    """Return the registry entries that were packed, but for those that this release cannot read.

    One of another release must not keep the others from being found.
    """
    found = list[WorkerInfo]()
    for one in packed:
        try:
            found.append(unpack_info(one))
        except WireError as error:
            log.debug("worker unreadable", reason=str(error))
    return found
