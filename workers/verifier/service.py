"""The verifier: read inboxes, step while anything is ready, keep the lease, sweep what is idle.

It does not know how a forward works (the engine does), what may open (admission), how a verdict is built (step), how a
session begins and ends (sessions), or what is done about a verifier that died (recovery).
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

from dsdq.bus.dead import DeadLetters, Kind
from dsdq.bus.inbox import SLACK, Bounds, Entry, Inbox
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.sessions import SessionStore
from dsdq.errors import BusError, DsdqError, FencedError, RedisUnavailableError
from dsdq.models.tokenizer import Tokenizer
from dsdq.sealing import Keyring
from dsdq.session import Ahead, Live, liveness
from dsdq.tasks import end
from dsdq.telemetry.logs import get_logger
from dsdq.wire import ErrorCode, Gap
from workers.engine.planner import Planner, Request
from workers.verifier import admission
from workers.verifier.adoption import Adoption
from workers.verifier.engine_thread import EngineThread
from workers.verifier.held import Held, Pending
from workers.verifier.reception import Reception
from workers.verifier.recovery import MOST_TRIES, Recovery
from workers.verifier.sessions import Sessions
from workers.verifier.step import Ready, Timing, conclude, ready_rounds

log = get_logger("verifier")

READ_ENTRIES = 64
BLOCK_MS = 500
SWEEP_S = 5.0
RETRY_S = 0.2
ROOM_S = 0.05  # how soon to look again for KV cache that nobody has given up yet
GAP_S = 0.2  # how long a round may be ahead of one that is missing before the device is asked for that
MOST_UNCOMMITTED = 256  # verdicts that may wait for their logs before the engine waits for them
BEATS_PER_LEASE = 8
RECENT = 0.2  # weight of the newest figure in a moving average


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds this verifier; durations in milliseconds. ``depth`` rounds of one session may wait at once."""

    slots: int
    inbox: Bounds
    depth: int
    step_tokens: int
    lease_ms: int
    idle_ttl_ms: int
    closed_ttl_ms: int
    feed_entries: int
    dead_letters: int


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
        keyring: Keyring,
    ) -> None:
        self.info = info
        self._offer = offer
        self._limits = limits
        self._secret = secret
        self._registry = Registry(redis)
        self._inbox = Inbox(redis, info.wid, tenants, DeadLetters(redis, limits.dead_letters))
        self._engine = engine
        self._planner = planner
        self._store = SessionStore(
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
            self._store,
            self._inbox,
            planner,
            offer,
            tokenizer,
            worker=info.wid,
            slots=limits.slots,
            most_waiting=SLACK * limits.inbox.entries,
            on_ready=self._work.set,
        )
        self._adoption = Adoption(self._store, self._sessions, offer, info.wid)
        self._reception = Reception(
            self._inbox, self._sessions, self._adoption, keyring, depth=limits.depth, on_round=self._work.set
        )
        self._recovery = Recovery(
            redis,
            self._registry,
            self._store,
            self._sessions,
            self._adoption,
            self._reception,
            info=lambda: self.info,
            claim_ms=limits.lease_ms,
        )
        self._steps = 0
        self._rows = 0
        self._row_ms = 0.0
        self._alone: deque[str] = deque()

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until ``stop`` is set, then finish the step and hand the open sessions over to others.

        Raises:
            FencedError: the lease lapsed, or could not be renewed in time; another incarnation may take its place.
            BusError: Redis refused what a verifier needs.
        """
        bind_contextvars(worker=self.info.wid)
        await self._inbox.open(self._limits.inbox)
        await self._inbox.beat(1, self._keys_ttl_ms)
        self._recovery.tell(await self._registry.join(self.info, self._limits.lease_ms))
        log.info("serving", target=self.info.model)
        if ready is not None:
            ready.set()
        committing = asyncio.create_task(self._sessions.commits.run())
        stepping = asyncio.create_task(self._step_forever())
        loops = (
            self._consume(),
            self._beat(),
            self._sweep(),
            self._sessions.admit_forever(),
            self._adoption.repair_forever(self._reception.take),
            self._recovery.run(),
            self._recovery.relieve_forever(self._limits.lease_ms / 1000),
            stop.wait(),
        )
        others = [asyncio.create_task(loop) for loop in loops]
        try:
            done, _ = await asyncio.wait([committing, stepping, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._finish(stepping)
            await end(*others)
            await self._leave()
        finally:
            await end(stepping, *others, committing)

    async def _finish(self, stepping: asyncio.Task[None]) -> None:
        """Take nothing more in, finish the step, and write what is decided."""
        self._stopping = True
        self._work.set()
        self.info = replace(self.info, leaving=True)
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(self._limits.lease_ms / 1000):
                await self._inbox.close()
                await asyncio.wait([stepping])
                await self._sessions.commits.shorter_than(1)

    async def _leave(self) -> None:
        """End the lease, so that others take over what is left; if nothing is, leave no trace."""
        with contextlib.suppress(BusError):
            await self._inbox.bury_condemned()
            if len(self._sessions) or await self._inbox.holds_any():
                await self._registry.hand_over(self.info)
            else:
                await self._inbox.forget()
                await self._registry.forget(self.info.model, self.info.wid)

    @property
    def _keys_ttl_ms(self) -> int:
        """Return how long a dead verifier's keys wait for one to take over: as long as its sessions' logs."""
        return 2 * self._limits.idle_ttl_ms

    # Loops

    async def _consume(self) -> None:
        unread: deque[Entry] = deque()
        while True:
            try:
                if not unread:
                    await self._inbox.bury_condemned()
                    unread.extend(await self._inbox.read(count=READ_ENTRIES, block_ms=BLOCK_MS))
                while unread:
                    await self._reception.hear(unread[0])
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
        pause_s = self._limits.lease_ms / 1000 / BEATS_PER_LEASE
        silent_since, drained_per_s = monotonic(), 1.0
        while True:
            settled = self._sessions.commits.settled
            await asyncio.sleep(pause_s)
            self.info = replace(
                self.info, sessions=len(self._sessions), steps=self._steps, rows=self._rows, row_ms=self._row_ms
            )
            drained_per_s += RECENT * ((self._sessions.commits.settled - settled) / pause_s - drained_per_s)
            try:
                self._recovery.tell(await self._registry.renew(self.info, self._limits.lease_ms))
                silent_since = monotonic()
                await self._inbox.beat(drained_per_s, self._keys_ttl_ms)
            except RedisUnavailableError as error:
                if monotonic() - silent_since > self._limits.lease_ms / 1000:
                    msg = f"lease of verifier {self.info.wid}: could not be renewed in time; it must stop"
                    raise FencedError(msg) from error

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            with contextlib.suppress(RedisUnavailableError):
                await self._registry.announce(self.info.model)
                await self._sessions.drop_strays()
            oldest = monotonic() - self._limits.idle_ttl_ms / 1000
            for held in self._sessions:
                if held.touched_s < oldest and not held.pending:
                    reason = "no message came for too long; open a new session"
                    self._sessions.fail(held, ErrorCode.EXPIRED, reason)

    # Steps

    async def _step(self) -> bool:
        """Run one forward for whoever is ready; say whether anybody was.

        Verdicts are queued for their logs, so that the next forward starts while they are written.
        """
        ready = {one.held.session: one for one in map(self._next_ready, self._sessions)}
        started_s = monotonic()
        requests = [one.request for one in ready.values() if self._sessions.holds(one.held)]
        rows = self._planner.plan(self._isolated(requests), started_s)
        if not rows:
            return self._wait_for_room(ready.values())
        verified = [ready[row.session] for row in rows if row.keep]
        judged = [one.judged for one in verified]
        try:
            judgements = await self._engine.run(self._engine.engine.verify, rows, judged, self._secret)
        except DsdqError:
            raise
        except Exception:
            log.exception("step failed", sessions=[row.session for row in rows])
            await self._suspect([ready[row.session].held for row in rows])
            return True
        for row in rows:
            held = ready[row.session].held
            if not row.keep and self._sessions.holds(held):
                self._planner.computed(row.session, held.state.transcript.tokens, row.end)
        if verified:
            waiting = sum(bool(one.rounds) for one in ready.values())
            timing = Timing(started_s, monotonic(), len(verified), waiting, self._limits.step_tokens)
            self._count(timing)
            pairs = zip(verified, judgements, strict=True)
            self._sessions.commit([conclude(one, judgement, self._offer.eos_ids, timing) for one, judgement in pairs])
        return True

    def _count(self, timing: Timing) -> None:
        self._steps += 1
        self._rows += timing.batch_rows
        row_ms = 1000 * (timing.ended_s - timing.started_s) / timing.batch_rows
        self._row_ms += (RECENT if self._row_ms else 1.0) * (row_ms - self._row_ms)

    def _isolated(self, requests: Sequence[Request]) -> Sequence[Request]:
        """Return all requests, or, after a step that failed, one of those it had: whose fault it was is seen alone."""
        while self._alone:
            session = self._alone.popleft()
            if suspects := [one for one in requests if one.session == session]:
                return suspects
        return requests

    async def _suspect(self, helds: Sequence[Held]) -> None:
        """Try each of several sessions alone; end one that failed alone too often, and keep its round for people."""
        if len(helds) > 1:
            self._alone.extend(held.session for held in helds)
            return
        held = helds[0]
        held.failures += 1
        self._alone.append(held.session)
        if held.failures < MOST_TRIES or not self._sessions.holds(held):
            return
        reason = f"the forward failed {MOST_TRIES} times on it"
        culprit = held.pending.popleft().entry if held.pending else None
        self._sessions.fail(held, ErrorCode.INTERNAL, reason)
        if culprit is not None:
            await self._inbox.bury(culprit, Kind.FAILED, reason, MOST_TRIES)

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
                self._set_aside(held, pending)
            else:
                self._sessions.commits.settle(held, [pending.entry])
        return Ready(held)

    def _set_aside(self, held: Held, pending: Pending) -> None:
        """Keep a round whose predecessor is missing; should that not come soon, ask the device for it."""
        held.ahead.append(pending)
        asyncio.get_running_loop().call_later(GAP_S, self._miss, held, pending)

    def _miss(self, held: Held, pending: Pending) -> None:
        if self._sessions.holds(held) and pending in held.ahead:
            self._sessions.say(held, Gap(held.session, held.state.transcript.length))
