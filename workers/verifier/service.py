"""The verifier: read inboxes, keep the lease, sweep what is idle.

It does not know what becomes of a message (reception), how steps are made (stepping), how a session begins and ends
(sessions), or what is done about a verifier that died (recovery).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import replace
from time import monotonic

from redis.asyncio import Redis
from structlog.contextvars import bind_contextvars

from dsdq.bus.dead import DeadLetters
from dsdq.bus.figures import FiguresStore
from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.quotas import Quotas
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.sessions import SessionStore
from dsdq.errors import BusError, FencedError, RedisUnavailableError
from dsdq.models.tokenizer import Tokenizer
from dsdq.receipts import Signer
from dsdq.sealing import Keyring
from dsdq.tasks import end
from dsdq.telemetry.figures import Snapshot
from dsdq.telemetry.logs import get_logger
from dsdq.wire import ErrorCode
from workers.engine.planner import Planner
from workers.verifier import admission
from workers.verifier.adoption import Adoption
from workers.verifier.blame import Blame
from workers.verifier.engine_thread import EngineThread
from workers.verifier.figures import Figures
from workers.verifier.heap import give_back_free_pages
from workers.verifier.held import Held
from workers.verifier.limits import Limits
from workers.verifier.reception import Reception
from workers.verifier.recovery import Recovery
from workers.verifier.sessions import Sessions
from workers.verifier.spending import Spending
from workers.verifier.stepping import Stepper
from workers.verifier.tenancy import Roster, Tenancy

log = get_logger("verifier")

READ_ENTRIES = 64
BLOCK_MS = 500
TIDY_S = 10.0  # how often free memory is given back
SWEEP_S = 5.0
RETRY_S = 0.2
BEATS_PER_LEASE = 8
BEATS_LOST = 4  # so many heartbeats in a row may stay without an answer
FIGURES_S, FIGURES_LEASES = 1.0, 3  # how often figures are written, and for how many leases they are kept
RECENT = 0.2  # weight of the newest figure in a moving average


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
        tenancy: Tenancy,
        signer: Signer | None,
        figures: Figures,
        limits: Limits,
        secret: int,
    ) -> None:
        self.info, self._engine, self._limits = info, engine, limits
        self._registry, self._shown = Registry(redis), FiguresStore(redis)
        self._inbox = Inbox(redis, info.wid, (), DeadLetters(redis, limits.dead_letters))
        self._planner, self._tenancy, self._keyring = planner, tenancy, Keyring({})
        tenancy.on_change = self._go_by
        store, work = _store(redis, info.wid, limits), asyncio.Event()
        self._sessions = Sessions(
            store,
            self._inbox,
            planner,
            offer,
            tokenizer,
            Spending(Quotas(redis), tenancy),
            signer,
            figures,
            worker=info.wid,
            limits=limits,
            on_ready=work.set,
        )
        blame = Blame(self._inbox, store)
        self._stepper = Stepper(
            engine, planner, self._sessions, blame, offer, work, step_tokens=limits.step_tokens, secret=secret
        )
        self._adoption = Adoption(store, self._registry, self._sessions, offer, tenancy, info.wid)
        self._reception = Reception(self._inbox, self._sessions, self._adoption, self._keyring, tenancy)
        self._recovery = Recovery(
            redis,
            self._registry,
            store,
            self._sessions,
            self._adoption,
            self._reception,
            info=lambda: self.info,
            claim_ms=limits.lease_ms,
        )

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until ``stop`` is set, then finish the step and hand the open sessions over to others.

        Raises:
            FencedError: the lease lapsed, or could not be renewed in time; another incarnation may take its place.
            BusError: Redis refused what a verifier needs.
        """
        bind_contextvars(worker=self.info.wid)
        await self._tenancy.follow()
        await self._inbox.open(self._limits.inbox)
        await self._inbox.serve(self._tenancy.roster.served)
        await self._inbox.beat(1, self._keys_ttl_ms)
        self._recovery.tell(await self._registry.join(self.info, self._limits.lease_ms))
        self._lives()
        self._measure()
        log.info("serving", target=self.info.model)
        if ready is not None:
            ready.set()
        committing = asyncio.create_task(self._sessions.commits.run())
        stepping = asyncio.create_task(self._stepper.run())
        loops = (
            self._consume(),
            self._beat(),
            self._sweep(),
            self._tidy(),
            self._sessions.admit_forever(),
            self._sessions.spending.run(self._present),
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
        self._stepper.stop()
        self.info = replace(self.info, leaving=True)
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(self._limits.lease_ms / 1000):
                await self._inbox.close()
                await asyncio.wait([stepping])
                await self._sessions.commits.shorter_than(1)
                await self._sessions.spending.settle()

    async def _leave(self) -> None:
        """End the lease, so that others take over what is left; if nothing is, leave no trace."""
        with contextlib.suppress(BusError):
            await self._shown.forget(self.info.wid)
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

    def _lives(self) -> None:
        """Say for how long the lease is good."""
        self._sessions.figures.alive_until_s = monotonic() + self._limits.lease_ms / 1000

    def _measure(self) -> Snapshot:
        """Return this process's figures as they are now."""
        sessions, ttl_ms = self._sessions, FIGURES_LEASES * self._limits.lease_ms
        return sessions.figures.take(self.info, self._planner, list(sessions), sessions.waiting, ttl_ms)

    def _go_by(self, roster: Roster) -> None:
        """Let tenants have what their records say from now on."""
        self._keyring.hold(roster.secrets)
        self._planner.fair.weights = roster.weights
        self._end_disabled()

    def _end_disabled(self) -> None:
        """End the sessions of tenants that may have none, those too that were taken over."""
        for held in self._sessions:
            if held.tenant in self._tenancy.roster.disabled:
                self._sessions.fail(held, ErrorCode.TENANT_DISABLED, f"tenant {held.tenant} was disabled")

    async def _present(self) -> list[Held]:
        """Return the sessions that are this verifier's own: others may have taken some."""
        await self._sessions.drop_strays()
        return list(self._sessions)

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
                # Asking for more takes time: before it, a step that is free to begin does, and a short one is written.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except RedisUnavailableError as error:
                await self._hope(error)

    async def _hope(self, error: RedisUnavailableError) -> None:
        """Wait a little. The lease decides for how long to hope: once it has lapsed, the heartbeat ends this worker."""
        log.warning("redis unavailable", reason=str(error))
        await asyncio.sleep(RETRY_S)

    async def _beat(self) -> None:
        lease_s = self._limits.lease_ms / 1000
        pause_s = lease_s / BEATS_PER_LEASE
        silent_since, shown_s, drained_per_s = monotonic(), 0.0, 1.0
        while True:
            settled = self._sessions.commits.settled
            await asyncio.sleep(pause_s)
            stepper = self._stepper
            self.info = replace(
                self.info,
                sessions=len(self._sessions),
                steps=stepper.steps,
                rows=stepper.rows,
                row_ms=stepper.row_ms,
                drafts=self._engine.engine.drafts,
            )
            drained_per_s += RECENT * ((self._sessions.commits.settled - settled) / pause_s - drained_per_s)
            unowned, due = list(self._sessions.unowned), None
            if monotonic() >= shown_s + FIGURES_S:
                shown_s, due = monotonic(), self._measure()
            try:
                # An answer that is lost on its way must not be waited for as long as the lease lasts.
                async with asyncio.timeout(lease_s / BEATS_LOST):
                    self._recovery.tell(await self._registry.renew(self.info, self._limits.lease_ms))
                    silent_since = monotonic()
                    self._lives()
                    # With the lease the inboxes are still ours alone, and nobody else would take these out.
                    await self._inbox.settle(unowned)
                    del self._sessions.unowned[: len(unowned)]
                    await self._sessions.tell()  # time alone may have made the wait too long
                    await self._inbox.beat(drained_per_s, self._keys_ttl_ms)
                    await self._tenancy.follow()
                    await self._inbox.serve(self._tenancy.roster.served)
                    if due is not None:
                        await self._shown.write(due)
            except (RedisUnavailableError, TimeoutError) as error:
                if monotonic() - silent_since > lease_s:
                    msg = f"lease of verifier {self.info.wid}: could not be renewed in time; it must stop"
                    raise FencedError(msg) from error

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            await asyncio.to_thread(give_back_free_pages)  # without the interpreter's lock

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._end_disabled()
            with contextlib.suppress(RedisUnavailableError):
                await self._registry.announce(self.info.model)
            now_s, quiet = monotonic(), list[Held]()
            for held in self._sessions:
                silent_ms = 0.0 if held.pending else 1000 * (now_s - held.touched_s)
                if silent_ms > self._limits.idle_ttl_ms:
                    self._sessions.expire(held)
                elif silent_ms > self._limits.quiet_ms:
                    quiet.append(held)
            self._sessions.lend_places(quiet)


def _store(redis: Redis, worker: str, limits: Limits) -> SessionStore:
    return SessionStore(
        redis,
        worker,
        feed_entries=limits.feed_entries,
        # A log outlives its session's idle time, so that what expires is told before it is gone.
        open_ttl_ms=2 * limits.idle_ttl_ms,
        closed_ttl_ms=limits.closed_ttl_ms,
    )
