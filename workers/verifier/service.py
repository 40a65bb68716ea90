"""The verifier: read inboxes, step while anything is ready, keep the lease, sweep what is idle.

It does not know how a forward works (the engine does), what may open (admission), how a verdict is built (step), or how
a session begins and ends (sessions).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from redis.asyncio import Redis
from structlog.contextvars import bind_contextvars

from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.sessions import SessionStore
from dsdq.errors import BusError, FencedError, RedisUnavailableError, WireError
from dsdq.models.tokenizer import Tokenizer
from dsdq.session import Ahead, Live, liveness
from dsdq.tasks import end
from dsdq.telemetry.logs import get_logger
from dsdq.wire import Cancel, Decode, Draft, ErrorCode, Gap, Open, answer_to, unpack
from workers.engine.planner import Planner
from workers.verifier import admission
from workers.verifier.engine_thread import EngineThread
from workers.verifier.held import Held, Pending
from workers.verifier.sessions import Sessions
from workers.verifier.step import Ready, Timing, conclude, ready_rounds

log = get_logger("verifier")

READ_ENTRIES = 64
BLOCK_MS = 500
SWEEP_S = 5.0
RETRY_S = 0.2
ROOM_S = 0.05  # how soon to look again for KV cache that nobody has given up yet
MOST_UNCOMMITTED = 256  # verdicts that may wait for their logs before the engine waits for them
BEATS_PER_LEASE = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds this verifier; durations in milliseconds."""

    slots: int
    inbox_bound: int
    lease_ms: int
    idle_ttl_ms: int
    closed_ttl_ms: int
    feed_entries: int


class Verifier:
    """One incarnation of a verifier worker."""

    def __init__(  # noqa: PLR0913 - the parts of a verifier, each named
        self,
        redis: Redis,
        engine: EngineThread,
        planner: Planner,
        offer: admission.Offer,
        info: WorkerInfo,
        tokenizer: Tokenizer,
        *,
        tenants: Sequence[str],
        limits: Limits,
        secret: int,
    ) -> None:
        self.info = info
        self._offer = offer
        self._limits = limits
        self._secret = secret
        self._registry = Registry(redis)
        self._inbox = Inbox(redis, info.wid, tenants)
        self._engine = engine
        self._planner = planner
        store = SessionStore(
            redis,
            info.wid,
            feed_entries=limits.feed_entries,
            # A log outlives its session's idle time, so that what expires is told before it is gone.
            open_ttl_ms=2 * limits.idle_ttl_ms,
            closed_ttl_ms=limits.closed_ttl_ms,
        )
        self._work = asyncio.Event()
        self._stopping = False
        self._sessions = Sessions(
            store, self._inbox, planner, offer, tokenizer, worker=info.wid, slots=limits.slots, on_open=self._work.set
        )
        self._steps = 0
        self._rows = 0

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until ``stop`` is set, then finish the step, tell the open sessions, and leave.

        Raises:
            BusError: Redis failed for longer than the lease, or the lease lapsed.
        """
        bind_contextvars(worker=self.info.wid)
        await self._inbox.open(bound=self._limits.inbox_bound, slots=self._limits.slots)
        await self._registry.join(self.info, self._limits.lease_ms)
        log.info("serving", target=self.info.model)
        if ready is not None:
            ready.set()
        committing = asyncio.create_task(self._sessions.commits.run())
        stepping = asyncio.create_task(self._step_forever())
        loops = (self._consume(), self._beat(), self._sweep(), self._sessions.admit_forever(), stop.wait())
        others = [asyncio.create_task(loop) for loop in loops]
        try:
            done, _ = await asyncio.wait([committing, stepping, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            self._stopping = True
            self._work.set()
            await asyncio.wait([stepping], timeout=self._limits.lease_ms / 1000)
        finally:
            await end(stepping, *others)
            await self._leave()
            await end(committing)

    async def _leave(self) -> None:
        reason = "the verifier stopped; open the session again with another one"
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(self._limits.lease_ms / 1000):
                await self._registry.leave(self.info)
                await self._inbox.close()
                await self._sessions.dismiss_waiting(ErrorCode.WORKER_STOPPED, reason)
                for held in self._sessions:
                    self._sessions.fail(held, ErrorCode.WORKER_STOPPED, reason)
                await self._sessions.commits.shorter_than(1)

    # Loops

    async def _consume(self) -> None:
        unread: deque[Entry] = deque()
        while True:
            try:
                if not unread:
                    unread.extend(await self._inbox.read(count=READ_ENTRIES, block_ms=BLOCK_MS))
                while unread:
                    await self._take(unread[0])
                    unread.popleft()
            except RedisUnavailableError as error:
                await self._hope(error)

    async def _step_forever(self) -> None:
        while not self._stopping:
            await self._work.wait()
            self._work.clear()
            while not self._stopping and await self._step():
                await self._sessions.commits.shorter_than(MOST_UNCOMMITTED)

    async def _hope(self, error: RedisUnavailableError) -> None:
        """Wait a little. The lease decides for how long to hope: once it has lapsed, the heartbeat ends this worker."""
        log.warning("redis unavailable", reason=str(error))
        await asyncio.sleep(RETRY_S)

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
                    self._sessions.fail(held, ErrorCode.EXPIRED, reason)

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
        self._sessions.fail(held, answer.code, answer.message, [entry])

    async def _route(self, entry: Entry, message: Draft | Decode | Cancel) -> None:
        if isinstance(message, Cancel) and await self._sessions.forget_waiting(message.session, entry.tenant):
            await self._inbox.settle([entry])
            return
        held = self._sessions.find(message.session, entry.tenant)
        if held is None:
            await self._inbox.bury(entry, f"unknown session {message.session}")
            return
        held.touched_s = monotonic()
        if isinstance(message, Cancel):
            self._sessions.cancel(held, entry)
            return
        held.pending.append(Pending(entry, message, monotonic()))
        self._work.set()

    # Steps

    async def _step(self) -> bool:
        """Run one forward for whoever is ready; say whether anybody was.

        Verdicts are queued for their logs, so that the next forward starts while they are written.
        """
        ready = {one.held.session: one for one in map(self._next_ready, self._sessions)}
        started_s = monotonic()
        requests = [one.request for one in ready.values() if self._sessions.holds(one.held)]
        rows = self._planner.plan(requests, started_s)
        if not rows:
            return self._wait_for_room(ready.values())
        verified = [ready[row.session] for row in rows if row.keep]
        judged = [one.judged for one in verified]
        judgements = await self._engine.run(self._engine.engine.verify, rows, judged, self._secret)
        for row in rows:
            if not row.keep:
                self._planner.computed(row.session, ready[row.session].held.state.transcript.tokens, row.end)
        if verified:
            timing = Timing(started_s, monotonic(), len(verified))
            self._steps += 1
            self._rows += len(verified)
            pairs = zip(verified, judgements, strict=True)
            self._sessions.commit([conclude(one, judgement, self._offer.eos_ids, timing) for one, judgement in pairs])
        return True

    def _wait_for_room(self, ready: Iterable[Ready]) -> bool:
        """Look again soon if somebody waits for KV cache: time alone makes room."""
        if any(one.rounds for one in ready):
            asyncio.get_running_loop().call_later(ROOM_S, self._work.set)
        return False

    def _next_ready(self, held: Held) -> Ready:
        """Return the session with its next live rounds; what is stale, repeated, ahead or wrong is dealt with."""
        while held.pending:
            pending = held.pending[0]
            status = liveness(held.state, pending.message)
            if isinstance(status, Live):
                objection = admission.object_to(held.state.contract, pending.message)
                if objection is None:
                    return ready_rounds(held, status, self._offer.vocab_size)
                self._sessions.fail(held, *objection)
                break
            held.pending.popleft()
            if isinstance(status, Ahead):
                self._sessions.say(held, Gap(held.session, held.state.transcript.length))
            self._sessions.commits.settle([pending.entry])
        return Ready(held)
