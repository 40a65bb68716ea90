"""Take over what a lapsed verifier leaves: its sessions, and all that lies in its inboxes; relieve a crowded one.

A verifier that is told to stop goes the same way: it ends its lease, and others find what it left. One verifier at a
time does it, for as many sessions as it has places; a session goes to whoever moves its epoch first, so a claim that
ends too early costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from redis.asyncio import Redis

from dsdq.bus.inbox import Entry, close_inboxes, forget_inboxes, holds_any, inbox_tenants, left_behind, with_tries
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.sessions import Place, SessionStore
from dsdq.errors import RedisUnavailableError
from dsdq.policies.routing import sessions_to_take
from dsdq.tasks import end
from dsdq.telemetry.logs import get_logger
from workers.verifier.adoption import MOST_TRIES, Adoption
from workers.verifier.reception import Reception
from workers.verifier.sessions import Sessions

log = get_logger("verifier")

TOGETHER = 8  # sessions rebuilt at the same time


class Recovery:
    """Takes over from lapsed verifiers of one model. ``info`` gives this verifier's present registry entry."""

    def __init__(
        self,
        redis: Redis,
        registry: Registry,
        store: SessionStore,
        sessions: Sessions,
        adoption: Adoption,
        reception: Reception,
        *,
        info: Callable[[], WorkerInfo],
        claim_ms: int,
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._store = store
        self._sessions = sessions
        self._adoption = adoption
        self._reception = reception
        self._info = info
        self._claim_ms = claim_ms
        self._lapsed: Sequence[str] = ()
        self._news = asyncio.Event()
        self._together = asyncio.Semaphore(TOGETHER)
        self._coming = 0  # sessions that are being taken over and may not be held yet
        self._taken: dict[str, set[tuple[str, str]]] = {}

    def tell(self, lapsed: Sequence[str]) -> None:
        """Take note of the verifiers whose lease has lapsed."""
        self._lapsed = lapsed
        self._taken = {wid: taken for wid, taken in self._taken.items() if wid in lapsed}
        if lapsed:
            self._news.set()

    async def run(self) -> None:
        """Take over from whoever lapses, for ever; from each on its own, so that a lost answer holds up nobody else."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                for wid in [wid for wid, task in running.items() if task.done()]:
                    running.pop(wid).result()
                for wid in self._lapsed:
                    if wid not in running:
                        running[wid] = asyncio.create_task(self._try_to_recover(wid))
        finally:
            await end(*running.values())

    async def relieve_forever(self, pause_s: float) -> None:
        """Take sessions from verifiers that are much more loaded than this one, now and then, for ever.

        The former owner learns of it like one that is presumed dead: its next commit is fenced.
        """
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, guards nothing
            try:
                me = self._info()
                others = [one for one in await self._registry.list_workers(me.model) if one.wid != me.wid]
                if (chosen := sessions_to_take(me, others)) is not None:
                    await self._relieve(chosen[0].wid, chosen[1])
            except RedisUnavailableError as error:
                log.warning("relief interrupted", reason=str(error))

    async def _relieve(self, wid: str, count: int) -> None:
        places = await self._store.places(wid)
        chosen = random.sample(places, min(count, len(places)))
        adopted = await asyncio.gather(*(self._adoption.adopt(place, wid) for place in chosen))
        came = {held.session for held in adopted if held is not None}
        log.info("relieved", former=wid, sessions=len(came))
        async for entries in left_behind(self._redis, wid, await inbox_tenants(self._redis, wid)):
            for entry in entries:
                if self._reception.session_of(entry) in came:
                    await self._reception.take(entry)

    async def _try_to_recover(self, wid: str) -> None:
        try:
            await self._recover(wid)
        except RedisUnavailableError as error:  # the next heartbeat tells of it again
            log.warning("takeover interrupted", former=wid, reason=str(error))

    async def _recover(self, wid: str) -> None:
        model, me = self._info().model, self._info().wid
        if not await self._registry.claim(model, wid, me, self._claim_ms):
            return
        try:
            if self._adoption.cannot_hear(await inbox_tenants(self._redis, wid)):
                return  # another verifier's to take over
            tenants = await close_inboxes(self._redis, wid)
            places = await self._store.places(wid)
            await self._adopt(places[: await self._share(len(places))], wid)
            await self._drain(wid, tenants)
            if not await self._store.places(wid) and not await holds_any(self._redis, wid, tenants):
                await forget_inboxes(self._redis, wid, tenants)
                await self._registry.forget(model, wid)
                log.info("took over all", former=wid)
        finally:
            await self._registry.release(model, wid)

    async def _share(self, orphans: int) -> int:
        """Return how many sessions to take: what there is room for, or all when nobody else has room either."""
        room, me = max(0, self._sessions.room - self._coming), self._info()
        if room >= orphans:
            return orphans
        others = await self._registry.list_workers(me.model)
        return room if any(one.sessions < one.slots for one in others if one.wid != me.wid) else orphans

    async def _adopt(self, places: Sequence[Place], former: str) -> None:
        self._coming += len(places)
        await asyncio.gather(*(self._adopt_one(place, former) for place in places))

    async def _adopt_one(self, place: Place, former: str) -> None:
        try:
            async with self._together:
                await self._adoption.adopt(place, former)
        finally:
            self._coming -= 1

    async def _drain(self, wid: str, tenants: Sequence[str]) -> None:
        """Take in what the sessions that came here were sent, what is for none any more, and unanswered opens."""
        async for found in left_behind(self._redis, wid, tenants):
            await self._drain_page(wid, found)

    async def _drain_page(self, wid: str, found: Sequence[Entry]) -> None:
        taken = self._taken.setdefault(wid, set())
        entries = [one for one in found if (one.tenant, one.id) not in taken and await self._reception.takes(one)]
        for entry in await with_tries(self._redis, wid, entries):
            if entry.tries >= MOST_TRIES:
                reason = f"{entry.tries} verifiers began a step with it and died"
                await self._reception.give_up(entry, reason, entry.tries)
            else:
                await self._reception.take(entry)
            taken.add((entry.tenant, entry.id))
