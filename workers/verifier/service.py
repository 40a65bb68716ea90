"""The verifier: read inboxes, hold sessions, step while anything is ready, commit, acknowledge.

It does not know how a forward works (the engine does), what may open (admission), or how a verdict is built (step).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic

from redis.asyncio import Redis

from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.sessions import Commit, CommitStatus, SessionStore
from dsdq.contract import FinishReason
from dsdq.errors import BusError, DsdqError, RefusedError, WireError
from dsdq.policies.batching import Ready, first_in_first_out
from dsdq.session import Ahead, Live, SessionState, liveness
from dsdq.telemetry.logs import get_logger
from dsdq.wire import (
    Cancel,
    Closed,
    Decode,
    Draft,
    Error,
    ErrorCode,
    Gap,
    Message,
    Open,
    Opened,
    pack,
    unpack,
    unpack_contract,
)
from workers.engine.engine import Engine
from workers.verifier import admission
from workers.verifier.held import Held, Pending
from workers.verifier.step import Outcome, Planned, compute, conclude, plan

log = get_logger("verifier")

READ_ENTRIES = 64
BLOCK_MS = 500
SWEEP_S = 5.0


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

    def __init__(  # noqa: PLR0913 - everything it needs comes in as an argument
        self,
        redis: Redis,
        engine: Engine,
        offer: admission.Offer,
        info: WorkerInfo,
        *,
        tenants: Sequence[str],
        limits: Limits,
        eos_ids: Sequence[int],
        secret: int,
    ) -> None:
        self.info = info
        self._engine = engine
        self._offer = offer
        self._limits = limits
        self._eos_ids = tuple(eos_ids)
        self._secret = secret
        self._registry = Registry(redis)
        self._inbox = Inbox(redis, info.wid, tenants)
        self._store = SessionStore(redis, info.wid, feed_entries=limits.feed_entries)
        self._held: dict[str, Held] = {}
        self._opens: deque[tuple[Entry, Open]] = deque()
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._steps = 0
        self._rows = 0

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until ``stop`` is set, then finish the step, tell the open sessions, and leave.

        Raises:
            BusError: Redis failed for good, or the lease lapsed.
        """
        await self._inbox.open(bound=self._limits.inbox_bound)
        await self._registry.join(self.info, self._limits.lease_ms)
        log.info("serving", worker=self.info.wid, target=self.info.model)
        if ready is not None:
            ready.set()
        loops = [self._consume(), self._step_forever(), self._heartbeat(), self._sweep()]
        tasks = [asyncio.create_task(loop) for loop in loops]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            await self._leave()

    async def _leave(self) -> None:
        self._thread.shutdown(wait=True)
        with contextlib.suppress(BusError):
            await self._registry.leave(self.info)
            await self._inbox.close()
            message = "the verifier stopped; open the session again with another one"
            for held in list(self._held.values()):
                await self._fail(held, ErrorCode.WORKER_STOPPED, message)

    # Loops

    async def _consume(self) -> None:
        while True:
            for entry in await self._inbox.read(count=READ_ENTRIES, block_ms=BLOCK_MS):
                await self._take(entry)

    async def _step_forever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while batch := await self._collect():
                await self._step(batch)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._limits.lease_ms / 3000)
            self.info = replace(self.info, sessions=len(self._held), steps=self._steps, rows=self._rows)
            await self._registry.renew(self.info, self._limits.lease_ms)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            oldest = monotonic() - self._limits.idle_ttl_ms / 1000
            for held in [held for held in self._held.values() if held.touched_s < oldest and not held.pending]:
                await self._fail(held, ErrorCode.EXPIRED, "no message came for too long; open a new session")

    # Messages

    async def _take(self, entry: Entry) -> None:
        """Take one message in. Whatever is wrong with it, the worker lives on."""
        try:
            message = unpack(entry.payload)
        except WireError as error:
            log.warning("malformed", entry=entry.id, tenant=entry.tenant, reason=str(error))
            await self._inbox.bury(entry, f"malformed: {error}")
            return
        if isinstance(message, Open):
            await self._open(entry, message)
        elif isinstance(message, Draft | Decode | Cancel):
            await self._route(entry, message)
        else:
            await self._inbox.bury(entry, f"not a device's message: {type(message).__name__.lower()}")

    async def _route(self, entry: Entry, message: Draft | Decode | Cancel) -> None:
        held = self._held.get(message.session)
        if held is None or held.state.contract.tenant != entry.tenant:
            if any(waiting.session == message.session for _, waiting in self._opens):
                self._opens = deque(pair for pair in self._opens if pair[1].session != message.session)
            await self._inbox.bury(entry, f"unknown session {message.session}")
            return
        held.touched_s = monotonic()
        if isinstance(message, Cancel):
            await self._cancel(held)
            await self._inbox.settle([entry])
            return
        held.pending.append(Pending(entry, message, monotonic()))
        self._work.set()

    async def _open(self, entry: Entry, message: Open) -> None:
        try:
            contract = unpack_contract(message.contract)
            if contract.tenant != entry.tenant or contract.session != message.session:
                await self._inbox.bury(entry, "the contract names another tenant or session than its envelope")
                return
            admission.check(self._offer, contract, message.prompt)
        except WireError as error:
            await self._inbox.bury(entry, f"malformed contract: {error}")
            return
        except RefusedError as refusal:
            log.info("refused", session=message.session, code=refusal.code)
            await self._store.refuse(contract, pack(Error(message.session, refusal.code, str(refusal))), self._ttl_ms)
            await self._inbox.settle([entry])
            return
        self._opens.append((entry, message))
        await self._admit()

    async def _admit(self) -> None:
        """Open what waits, first come first served, while there is room."""
        while self._opens and len(self._held) < self._limits.slots:
            entry, message = self._opens[0]
            contract = unpack_contract(message.contract)
            needed = admission.needed_tokens(contract, message.prompt)
            if message.session not in self._held and not self._engine.has_room(needed):
                return
            self._opens.popleft()
            if message.session not in self._held:
                await self._hold(message, needed)
            await self._inbox.settle([entry])

    async def _hold(self, message: Open, needed_tokens: int) -> None:
        contract = unpack_contract(message.contract)
        state = SessionState.opened(message)
        opened = Opened(
            session=message.session,
            worker=self.info.wid,
            epoch=state.epoch,
            numerics=self._offer.numerics,
            target_revision=self._offer.target_revision,
            length=state.transcript.length,
            digest=state.transcript.digest,
            max_window=contract.max_window,
            context_tokens=self._offer.context_tokens,
        )
        if not await self._store.open(contract, state, pack(opened), pack(message)):
            return  # a repeated open: its answer is in the log
        self._engine.admit(message.session, needed_tokens)
        self._held[message.session] = Held(state, monotonic())

    # Steps

    async def _collect(self) -> list[Planned]:
        """Return this step's rows: the oldest live round of each session, within the token budget."""
        planned: list[Planned] = []
        for held in self._held.values():
            one = await self._next_round(held)
            if one is not None:
                planned.append(one)
        planned.sort(key=lambda one: one.pending.received_s)
        ready = [Ready(one.held.session, len(one.row.tokens)) for one in planned]
        return planned[: len(first_in_first_out(ready, self._limits.step_tokens))]

    async def _next_round(self, held: Held) -> Planned | None:
        """Return the session's next live round; what is stale, repeated or ahead is dealt with on the way."""
        while held.pending:
            pending = held.pending[0]
            status = liveness(held.state, pending.message)
            if isinstance(status, Live):
                if self._law_missing(held, pending):
                    await self._fail(held, ErrorCode.RULE_LAW_MISSING, "a draft under the rejection rule needs its law")
                    return None
                return plan(held, pending, status, self._offer.vocab_size)
            held.pending.popleft()
            if isinstance(status, Ahead):
                gap = Gap(held.session, held.state.transcript.length)
                await self._store.append(held.state, pack(gap))
            await self._inbox.settle([pending.entry])
        return None

    async def _step(self, batch: list[Planned]) -> None:
        started = monotonic()
        loop = asyncio.get_running_loop()
        acceptances = await loop.run_in_executor(self._thread, compute, self._engine, batch, self._secret)
        ended = monotonic()
        self._steps += 1
        self._rows += len(batch)
        outcomes = [
            conclude(planned, acceptance, self._eos_ids, started, ended, len(batch))
            for planned, acceptance in zip(batch, acceptances, strict=True)
        ]
        statuses = await self._store.commit_many([self._commit_of(outcome) for outcome in outcomes])
        done = [entry for outcome, status in zip(outcomes, statuses, strict=True) for entry in self._apply(outcome, status)]
        await self._inbox.settle(done)
        if self._opens:
            await self._admit()
