"""The verifier: read inboxes, step while anything is ready, keep the lease, sweep what is idle.

It does not know how a forward works (the engine does), what may open (admission), how a verdict is built (step), or how
a session begins and ends (sessions).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

from redis.asyncio import Redis
from structlog.contextvars import bind_contextvars

from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.sessions import SessionStore
from dsdq.errors import BusError, FencedError, RedisUnavailableError, WireError
from dsdq.policies.batching import Ready, first_in_first_out
from dsdq.session import Ahead, Live, liveness
from dsdq.tasks import end
from dsdq.telemetry.logs import get_logger
from dsdq.wire import Cancel, Decode, Draft, ErrorCode, Gap, Open, answer_to, unpack
from workers.verifier import admission
from workers.verifier.held import Held, Pending
from workers.verifier.sessions import EngineThread, Sessions
from workers.verifier.step import Planned, Timing, compute, conclude, plan

log = get_logger("verifier")

READ_ENTRIES = 64
BLOCK_MS = 500
SWEEP_S = 5.0
RETRY_S = 0.2
BEATS_PER_LEASE = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds this verifier; durations in milliseconds."""

    slots: int
    inbox_bound: int
    step_tokens: int
    lease_ms: int
    idle_ttl_ms: int
    closed_ttl_ms: int
    feed_entries: int


class Verifier:
    """One incarnation of a verifier worker."""

    def __init__(
        self,
        redis: Redis,
        engine: EngineThread,
        offer: admission.Offer,
        info: WorkerInfo,
        *,
        tenants: Sequence[str],
        limits: Limits,
        eos_ids: Sequence[int],
        secret: int,
    ) -> None:
        self.info = info
        self._offer = offer
        self._limits = limits
        self._eos_ids = frozenset(eos_ids)
        self._secret = secret
        self._registry = Registry(redis)
        self._inbox = Inbox(redis, info.wid, tenants)
        self._engine = engine
        store = SessionStore(
            redis,
            info.wid,
            feed_entries=limits.feed_entries,
            # A log outlives its session's idle time, so that what expires is told before it is gone.
            open_ttl_ms=2 * limits.idle_ttl_ms,
            closed_ttl_ms=limits.closed_ttl_ms,
        )
        self._sessions = Sessions(store, self._inbox, self._engine, offer, worker=info.wid, slots=limits.slots)
        self._work = asyncio.Event()
        self._steps = 0
        self._rows = 0

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until ``stop`` is set, then finish the step, tell the open sessions, and leave.

        Raises:
            BusError: Redis failed for longer than the lease, or the lease lapsed.
        """
        bind_contextvars(worker=self.info.wid)
        await self._inbox.open(bound=self._limits.inbox_bound)
        await self._registry.join(self.info, self._limits.lease_ms)
        log.info("serving", target=self.info.model)
        if ready is not None:
            ready.set()
        loops = [self._consume(), self._step_forever(), self._beat(), self._sweep()]
        tasks = [asyncio.create_task(loop) for loop in loops]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(*tasks, stopped)
            await self._leave()

    async def _leave(self) -> None:
        with contextlib.suppress(BusError):
            await self._registry.leave(self.info)
            await self._inbox.close()
            for held in self._sessions:
                reason = "the verifier stopped; open the session again with another one"
                await self._sessions.fail(held, ErrorCode.WORKER_STOPPED, reason)

    # Loops

    async def _consume(self) -> None:
        while True:
            try:
                for entry in await self._inbox.read(count=READ_ENTRIES, block_ms=BLOCK_MS):
                    await self._take(entry)
            except RedisUnavailableError as error:
                # The lease decides how long to hope: once it has lapsed, the heartbeat ends this worker.
                log.warning("redis unavailable", reason=str(error))
                await asyncio.sleep(RETRY_S)

    async def _step_forever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while batch := await self._collect():
                await self._step(batch)

    async def _beat(self) -> None:
        silent_since = monotonic()
        while True:
            await asyncio.sleep(self._limits.lease_ms / 1000 / BEATS_PER_LEASE)
            self.info = replace(self.info, sessions=len(self._sessions), steps=self._steps, rows=self._rows)
            try:
                await self._registry.renew(self.info, self._limits.lease_ms)
                silent_since = monotonic()
            except RedisUnavailableError as error:
                if monotonic() - silent_since > self._limits.lease_ms / 1000:
                    msg = f"lease of verifier {self.info.wid}: could not be renewed in time; it must stop"
                    raise FencedError(msg) from error

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            oldest = monotonic() - self._limits.idle_ttl_ms / 1000
            for held in self._sessions:
                if held.touched_s < oldest and not held.pending:
                    reason = "no message came for too long; open a new session"
                    await self._sessions.fail(held, ErrorCode.EXPIRED, reason)

    # Messages

    async def _take(self, entry: Entry) -> None:
        """Take one message in. Whatever is wrong with it, the worker lives on."""
        try:
            message = unpack(entry.payload)
        except WireError as error:
            await self._refuse(entry, error)
            return
        if isinstance(message, Open):
            await self._sessions.receive(entry, message)
        elif isinstance(message, Draft | Decode | Cancel):
            await self._route(entry, message)
        else:
            await self._inbox.bury(entry, f"not a device's message: {type(message).__name__.lower()}")

    async def _refuse(self, entry: Entry, error: WireError) -> None:
        """Answer bytes that are no message when they name one of their tenant's sessions; else keep them for people."""
        log.warning("malformed", entry=entry.id, tenant=entry.tenant, reason=str(error))
        answer = answer_to(entry.payload, error)
        held = self._sessions.find(answer.session, entry.tenant) if answer else None
        if answer is None or held is None:
            await self._inbox.bury(entry, f"malformed: {error}")
            return
        await self._sessions.fail(held, answer.code, answer.message)
        await self._inbox.settle([entry])

    async def _route(self, entry: Entry, message: Draft | Decode | Cancel) -> None:
        held = self._sessions.find(message.session, entry.tenant)
        if held is None:
            if isinstance(message, Cancel) and await self._sessions.forget_waiting(message.session, entry.tenant):
                await self._inbox.settle([entry])
            else:
                await self._inbox.bury(entry, f"unknown session {message.session}")
            return
        held.touched_s = monotonic()
        if isinstance(message, Cancel):
            await self._sessions.cancel(held)
            await self._inbox.settle([entry])
            await self._sessions.admit()
            return
        held.pending.append(Pending(entry, message, monotonic()))
        self._work.set()

    # Steps

    async def _collect(self) -> list[Planned]:
        """Return this step's rows: the oldest live round of each session, within the token budget."""
        planned = [one for held in self._sessions if (one := await self._next_round(held)) is not None]
        planned.sort(key=lambda one: one.pending.received_s)
        ready = [Ready(one.held.session, len(one.row.tokens)) for one in planned]
        return planned[: len(first_in_first_out(ready, self._limits.step_tokens))]

    async def _next_round(self, held: Held) -> Planned | None:
        """Return the session's next live round; what is stale, repeated, ahead or wrong is dealt with on the way."""
        while held.pending:
            pending = held.pending[0]
            status = liveness(held.state, pending.message)
            if isinstance(status, Live):
                objection = admission.object_to(held.state.contract, pending.message)
                if objection is None:
                    return plan(held, pending, status, self._offer.vocab_size)
                await self._sessions.fail(held, *objection)
                return None
            held.pending.popleft()
            if isinstance(status, Ahead):
                await self._sessions.say(held, Gap(held.session, held.state.transcript.length))
            await self._inbox.settle([pending.entry])
        return None

    async def _step(self, batch: list[Planned]) -> None:
        started_s = monotonic()
        accepted = await self._engine.run(compute, self._engine.engine, batch, self._secret)
        timing = Timing(started_s, monotonic(), len(batch))
        self._steps += 1
        self._rows += len(batch)
        outcomes = [
            conclude(planned, acceptance, self._eos_ids, timing)
            for planned, acceptance in zip(batch, accepted, strict=True)
        ]
        await self._sessions.commit(outcomes)
        if any(outcome.closed is not None for outcome in outcomes):
            await self._sessions.admit()
