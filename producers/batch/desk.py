"""What one batch worker has in hand: lines that it claimed, with their leases kept alive while they are being done."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Collection, Mapping
from time import monotonic

from dsdq.batches import Status
from dsdq.bus.batches import BatchStore, Claim, Entry
from dsdq.errors import BusError, RedisUnavailableError
from dsdq.keys import fresh_name
from dsdq.policies.retry import Backoff
from dsdq.tasks import end
from dsdq.telemetry.logs import get_logger
from producers.batch.answering import FIRST_MS, MOST_FAILURES, MOST_MS, answer_of
from producers.batch.fair import divide, shares_of
from producers.batch.lines import Request, entry_of, seed_of
from producers.batch.runner import Answer, Runner
from producers.openai.errors import ApiError

log = get_logger("batch")

LEASE_MS = 10_000
BEAT_S = 2.0
LOOK_S = 0.5
"""How long a turn that has room left waits before it looks for more lines."""
TURN_S = 600.0
"""How long a turn goes on claiming: well below arq's time limit for a job."""

Key = tuple[str, str]
"""Tenant, and name among its leases, of a line."""


class Desk:
    """The lines of one worker, ``sessions`` of them at once at most."""

    def __init__(self, batches: BatchStore, runner: Runner, sessions: int) -> None:
        self.token = fresh_name()
        self.weights: Mapping[str, float] = {}
        self.shut: Collection[str] = ()
        """Tenants that are disabled: their lines wait."""
        self.stopping = asyncio.Event()
        self.batches = batches
        self._runner = runner
        self._sessions = sessions
        self._claiming = asyncio.Lock()
        self._lines: dict[Key, asyncio.Task[None]] = {}
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - spreads load, guards nothing

    async def turn(self, size: int) -> None:
        """Claim lines and do them, ``size`` at once, for a while; what is left when the worker stops is given back."""
        ends_s, mine, stop = monotonic() + TURN_S, dict[Key, asyncio.Task[None]](), asyncio.create_task(self._stop())
        try:
            while not self.stopping.is_set():
                if monotonic() < ends_s:
                    mine |= await self._take_if_possible(size - len(mine))
                if not mine:
                    return
                room = LOOK_S if len(mine) < size else None
                await asyncio.wait([stop, *mine.values()], timeout=room, return_when=asyncio.FIRST_COMPLETED)
                mine = {key: task for key, task in mine.items() if not task.done()}
        finally:
            stop.cancel()
            await self._give_back(mine)

    async def beat(self) -> None:
        """Renew the leases of all lines, for ever, and stop those that are not to be done any more."""
        while True:
            await asyncio.sleep(BEAT_S)
            members: dict[str, list[str]] = {}
            for tenant, member in self._lines:
                members.setdefault(tenant, []).append(member)
            try:
                lost = await self.batches.renew(self.token, members, LEASE_MS)
            except BusError as error:
                log.warning("leases not renewed", reason=str(error))
                continue
            for key in lost & self._lines.keys():
                self._lines[key].cancel()

    async def _take_if_possible(self, wanted: int) -> dict[Key, asyncio.Task[None]]:
        try:
            return await self._take(wanted)
        except BusError as error:  # what is being done goes on; who tends looks again
            log.warning("lines not claimed", reason=str(error))
            return {}

    async def _take(self, wanted: int) -> dict[Key, asyncio.Task[None]]:
        """Claim lines where they are due, and begin with them."""
        async with self._claiming:
            places = min(wanted, self._sessions - len(self._lines))
            if places <= 0 or self.stopping.is_set():
                return {}
            begun = {}
            for tenant, count in (await self._due(places)).items():
                for claim in await self.batches.claim(tenant, self.token, count, LEASE_MS):
                    key = (tenant, claim.member)
                    if key not in self._lines:  # else its lease had lapsed while it is still being done here
                        begun[key] = self._begin(key, claim)
            return begun

    async def _due(self, places: int) -> dict[str, int]:
        outlooks = [one for one in await self.batches.look(await self.batches.tenants()) if one.tenant not in self.shut]
        waiting = {one.tenant: one.waiting for one in outlooks}
        running = {one.tenant: one.running for one in outlooks}
        return divide(places, shares_of(waiting, running, self.weights))

    def _begin(self, key: Key, claim: Claim) -> asyncio.Task[None]:
        task = self._lines[key] = asyncio.create_task(self._do(claim))
        task.add_done_callback(lambda _: self._lines.pop(key))
        return task

    async def _do(self, claim: Claim) -> None:
        try:
            await self._write(claim, await self._entry(claim))
        except Exception:  # its lease lapses, and it is tried again
            log.exception("line failed", batch=claim.batch, line=claim.line)

    async def _entry(self, claim: Claim) -> Entry:
        request = Request.unpack(claim.work)
        seed = seed_of(claim.batch, request.custom_id)
        if claim.tries > MOST_FAILURES:
            message = f"{claim.tries} workers ended while they did this line"
            answer = Answer.of(ApiError(500, message, "internal", kind="server_error"))
        else:
            answer = await answer_of(lambda: self._runner(claim.tenant, claim.endpoint, request.body, seed), self._rng)
        return entry_of(claim, request, answer)

    async def _write(self, claim: Claim, entry: Entry) -> None:
        backoff = Backoff(self._rng, FIRST_MS, MOST_MS)
        while True:
            try:
                await self.batches.finish(claim, entry)
            except RedisUnavailableError as error:
                log.warning("result waits", batch=claim.batch, line=claim.line, reason=str(error))
                await asyncio.sleep(backoff.next_ms() / 1000)
            else:
                return

    async def _give_back(self, lines: Mapping[Key, asyncio.Task[None]]) -> None:
        await end(*lines.values())
        members: dict[str, list[str]] = {}
        for tenant, member in lines:
            members.setdefault(tenant, []).append(member)
        for tenant, ones in members.items():
            try:
                await self.batches.release(tenant, self.token, ones)
            except BusError as error:  # their leases lapse
                log.warning("lines not given back", tenant=tenant, reason=str(error))

    async def _stop(self) -> None:
        await self.stopping.wait()


async def expire(batches: BatchStore, tenant: str, batch_id: str) -> None:
    """End a batch whose window is over: what is not done is not done any more."""
    over = {"frozen": 1, "outcome": Status.EXPIRED}
    await batches.move(tenant, batch_id, Status.FINALIZING, [Status.VALIDATING, Status.IN_PROGRESS], over)
