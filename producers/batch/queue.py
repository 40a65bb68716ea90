"""What arq carries: turns at doing lines, and chores of whole batches. Nothing of it is the truth about a batch.

A job says only that there is something to do; what that is, and who does it, stands in the batches' own keys. So a job
that is lost, comes twice, or comes back from a killed worker after arq's time limit, costs nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import msgpack
from arq.connections import ArqRedis
from arq.worker import Retry, Worker, func
from redis.asyncio import Redis
from redis.exceptions import RedisError

from dsdq.batches import Status
from dsdq.bus.address import CLUSTER, parse_address, shown
from dsdq.bus.batches import Outlook
from dsdq.bus.files import FileStore
from dsdq.bus.tenants import TenantStore
from dsdq.errors import BusError, ConfigError
from dsdq.tasks import end
from dsdq.telemetry.logs import get_logger
from producers.batch.assembling import assemble
from producers.batch.desk import BEAT_S, LEASE_MS, Desk, expire
from producers.batch.preparing import prepare

log = get_logger("batch")

QUEUE = "arq:dsdq"
LINES = 4  # of one turn
CHORES = 2  # at once, beside the turns
POLL_S = 0.1
TEND_S = 1.0
PURGE_S = 60.0
AGAIN_S = 1.0
RETRY_S = 0.2
JOB_TIMEOUT_S = 3600
STOP_S = 15.0
TRIES = 1 << 30  # a job that was cancelled is there again; nobody counts


def check_address(url: str) -> None:
    """Return when batches can be done at ``url``.

    Raises:
        ConfigError: it is a cluster: arq's keys of one job lie in different slots.
    """
    if parse_address(url).kind == CLUSTER:
        msg = f"batches: expected a single Redis server or one behind Sentinels, got the cluster {shown(url)}"
        raise ConfigError(f"{msg}; arq, which carries their turns, does not work on a cluster")


def arq_of(redis: Redis) -> ArqRedis:
    """Return arq's client over the connections of ``redis``; it speaks msgpack, never pickle."""
    return ArqRedis(redis.connection_pool, pack, msgpack.unpackb, default_queue_name=QUEUE)


def pack(job: dict[str, Any]) -> bytes:
    """Return a job's bytes. What a failed one ended with is only for logs."""
    packed: bytes = msgpack.packb(job, default=repr)
    return packed


class Tender:
    """Sees to it that there are jobs for what there is to do, and does them."""

    def __init__(self, desk: Desk, files: FileStore, tenants: TenantStore, arq: ArqRedis, sessions: int) -> None:
        self._desk = desk
        self._batches = desk.batches
        self._files = files
        self._tenants = tenants
        self._arq = arq
        self._size = min(LINES, sessions)
        self.turns = math.ceil(sessions / LINES)
        self._taking = 0

    async def tend(self) -> None:
        """Look what there is to do, for ever."""
        while True:
            try:
                await self.tend_once()
            except (BusError, RedisError, OSError) as error:
                log.warning("batches not tended", reason=str(error))
            await asyncio.sleep(TEND_S)

    async def tend_once(self) -> None:
        """Queue a job for whatever there is to do, and end batches whose window is over."""
        records = await self._tenants.all()
        self._desk.weights = {name: one.weight for name, one in records.items()}
        self._desk.shut = {name for name, one in records.items() if not one.enabled}
        outlooks = await self._batches.look(await self._batches.tenants())
        for outlook in outlooks:
            await self._tend_tenant(outlook)
        waiting = sum(one.waiting for one in outlooks if one.tenant not in self._desk.shut)
        for number in range(min(self.turns, self._taking + math.ceil(waiting / self._size)) if waiting else 0):
            await self._arq.enqueue_job("turn", _job_id=f"turn:{self._desk.token}:{number}")

    async def turn(self, _: dict[str, Any]) -> None:
        """Do lines while there are some.

        Raises:
            Retry: enough turns are under way here; another worker may have room.
        """
        if self._taking >= self.turns:
            raise Retry(defer=RETRY_S)
        self._taking += 1
        try:
            await self._desk.turn(self._size)
        finally:
            self._taking -= 1

    async def chore(self, _: dict[str, Any], tenant: str, batch_id: str) -> None:
        """Do what a batch as a whole needs next, if nobody else does: read its input, or write its files."""
        token = self._desk.token
        if not await self._batches.hold(tenant, batch_id, token, LEASE_MS):
            return
        keeping = asyncio.create_task(self._keep(tenant, batch_id))
        try:
            if (await self._batches.get(tenant, batch_id)).status is Status.VALIDATING:
                await prepare(self._files, self._batches, tenant, batch_id)
            else:
                await assemble(self._files, self._batches, tenant, batch_id)
        finally:
            await end(keeping)
            await self._batches.let_go(tenant, batch_id, token)
        await self.tend_once()

    async def _tend_tenant(self, outlook: Outlook) -> None:
        for one in outlook.batches:
            if one.over and one.status in {Status.VALIDATING, Status.IN_PROGRESS}:
                await expire(self._batches, outlook.tenant, one.id)
            elif one.status is not Status.IN_PROGRESS and not one.running:
                job_id = f"chore:{one.id}:{one.status}:{self._desk.token}"
                await self._arq.enqueue_job("chore", outlook.tenant, one.id, _job_id=job_id)

    async def purge(self) -> None:
        """Forget what has expired, for ever, from time to time."""
        while True:
            await asyncio.sleep(PURGE_S)
            try:
                for tenant in await self._batches.tenants():
                    await self._files.purge(tenant)
                    await self._batches.forget(tenant)
            except BusError as error:
                log.warning("files not purged", reason=str(error))

    async def _keep(self, tenant: str, batch_id: str) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._batches.hold(tenant, batch_id, self._desk.token, LEASE_MS)
            except BusError as error:
                log.warning("lease not renewed", batch=batch_id, reason=str(error))


async def work(tender: Tender, desk: Desk, arq: ArqRedis, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Do batches until ``stop``; then give back at once what is not done. An outage of Redis is waited out."""
    loops: list[Coroutine[Any, Any, None]] = [desk.beat(), tender.tend(), tender.purge()]
    around = [asyncio.create_task(one) for one in loops]
    stopped = asyncio.create_task(stop.wait())
    workers = list[Worker]()
    ready()
    try:
        while not stop.is_set():
            workers = [
                *(one for one in workers if any(not task.done() for task in one.tasks.values())),
                _worker(tender, arq),
            ]
            running = asyncio.create_task(workers[-1].async_run())
            await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
            workers[-1].allow_pick_jobs = False
            if stop.is_set():
                break
            log.warning("queue lost", reason=str(running.exception()))
            await asyncio.sleep(AGAIN_S)
        desk.stopping.set()
        jobs = [task for one in workers for task in one.tasks.values()]
        if jobs:
            await asyncio.wait(jobs, timeout=STOP_S)
        await end(running, *jobs)
    finally:
        await end(stopped, *around)


def _worker(tender: Tender, arq: ArqRedis) -> Worker:
    jobs: list[tuple[str, Any]] = [("turn", tender.turn), ("chore", tender.chore)]
    return Worker(
        [func(job, name=name, keep_result=0, timeout=JOB_TIMEOUT_S, max_tries=TRIES) for name, job in jobs],
        queue_name=QUEUE,
        redis_pool=arq,
        handle_signals=False,
        max_jobs=tender.turns + CHORES,
        keep_result=0,
        poll_delay=POLL_S,
        job_serializer=pack,
        job_deserializer=msgpack.unpackb,
        log_results=False,
    )
