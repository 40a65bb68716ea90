"""The sessions of one verifier: opened while there is room, committed to, closed; first in Redis, then here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import TypeVar

from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.sessions import Commit, CommitStatus, SessionStore
from dsdq.contract import Contract, FinishReason
from dsdq.errors import BusError, RedisUnavailableError, RefusedError, WireError
from dsdq.models.tokenizer import Tokenizer
from dsdq.session import SessionState, Transcript
from dsdq.stopping import StopFinder
from dsdq.telemetry.logs import get_logger
from dsdq.wire import Closed, Error, ErrorCode, Message, Open, Opened, pack, unpack_contract
from workers.engine.engine import Engine
from workers.engine.kv import EngineFullError
from workers.verifier import admission
from workers.verifier.held import Held
from workers.verifier.step import Outcome

log = get_logger("verifier")

T = TypeVar("T")
RETRY_S = 0.2


class EngineThread:
    """The one thread that makes and owns the engine.

    No other thread of the process may compute with torch: each would get OpenMP threads of its own, and once there are
    more of those than cores, OpenMP puts them to sleep between any two operations (a small model then takes twice as
    long).
    """

    engine: Engine

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    async def start(self, make: Callable[[], Engine]) -> None:
        """Make the engine."""
        self.engine = await self.run(make)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function on the engine's thread, behind what runs there now."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def stop(self) -> None:
        """Wait for what runs and end the thread."""
        self._pool.shutdown(wait=True)


class Sessions:
    """What this verifier holds, and who waits to be let in."""

    def __init__(
        self,
        store: SessionStore,
        inbox: Inbox,
        engine: EngineThread,
        offer: admission.Offer,
        tokenizer: Tokenizer,
        *,
        worker: str,
        slots: int,
        on_open: Callable[[], None],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._engine = engine
        self._offer = offer
        self._tokenizer = tokenizer
        self._worker = worker
        self._slots = slots
        self._on_open = on_open
        self._held: dict[str, Held] = {}
        self._waiting: deque[tuple[Entry, Open, Contract]] = deque()
        self._admitting = asyncio.Lock()
        # Whoever appends reads the session's state first: nobody else may append in between.
        self._appending = asyncio.Lock()

    def __len__(self) -> int:
        """Return the number of open sessions."""
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        """Give the open sessions as they are now; the caller may close some on the way."""
        return iter(list(self._held.values()))

    def holds(self, held: Held) -> bool:
        """Say whether a session is still open."""
        return self._held.get(held.session) is held

    def find(self, session: str, tenant: str) -> Held | None:
        """Return an open session of this tenant; another tenant's does not exist for it."""
        held = self._held.get(session)
        return held if held is not None and held.state.contract.tenant == tenant else None

    # Opening

    async def receive(self, entry: Entry, message: Open) -> None:
        """Take an ``open`` in: refuse it, or let it wait for its turn."""
        contract = unpack_contract(message.contract, with_unknown=True)  # unpacking the message has proved that it can
        if contract.tenant != entry.tenant:
            await self._inbox.bury(entry, f"the contract names tenant {contract.tenant}, another than its inbox")
            return
        try:
            unpack_contract(message.contract)
            admission.check(self._offer, contract, message.prompt)
        except (RefusedError, WireError) as refusal:
            code = refusal.code if isinstance(refusal, RefusedError) else ErrorCode.TERMS_INVALID
            log.info("refused", session=message.session, code=code)
            answer = pack(Error(message.session, code, str(refusal)))
            await self._store.refuse(contract, answer=answer, request=pack(message))
            await self._inbox.settle([entry])
            return
        if any(self._is(one, message.session, entry.tenant) for one in self._waiting):  # asked again while it waits
            await self._inbox.settle([entry])
        else:
            self._waiting.append((entry, message, contract))
        await self.admit()

    async def admit(self) -> None:
        """Open what waits, first come first served, while there is room."""
        async with self._admitting:
            await self._admit()

    async def _admit(self) -> None:
        while self._waiting and len(self._held) < self._slots:
            entry, message, contract = self._waiting[0]
            needed = admission.needed_tokens(contract, message.prompt)
            try:
                if message.session not in self._held:
                    await self._engine.run(self._engine.engine.admit, message.session, needed)
                    await self._hold(message, contract)
            except EngineFullError:
                return  # the next session that closes makes room
            except BusError:
                await self._release(message.session)
                raise
            self._waiting.popleft()
            await self._inbox.settle([entry])

    async def _hold(self, message: Open, contract: Contract) -> None:
        transcript = Transcript(message.contract, message.prompt)
        opened = Opened(
            session=message.session,
            worker=self._worker,
            epoch=1,
            numerics=self._offer.numerics,
            target_revision=self._offer.target_revision,
            length=transcript.length,
            digest=transcript.digest,
            max_window=contract.max_window,
            context_tokens=self._offer.context_tokens,
        )
        owned = await self._store.open(
            contract, length=transcript.length, digest=transcript.digest, answer=pack(opened), request=pack(message)
        )
        if owned is None:  # a repeated open: its answer is in the log
            await self._release(message.session)
            return
        state = SessionState(contract, transcript, owned.epoch, owned.owner)
        stops = StopFinder(self._tokenizer.stream(), contract.stop_strings)
        self._held[message.session] = Held(state, owned, monotonic(), stops)
        self._on_open()

    async def forget_waiting(self, session: str, tenant: str) -> bool:
        """Drop an ``open`` that still waits; say whether there was one."""
        async with self._admitting:
            dropped = [one for one in self._waiting if self._is(one, session, tenant)]
            for one in dropped:
                self._waiting.remove(one)
        await self._inbox.settle([entry for entry, _, _ in dropped])
        return bool(dropped)

    async def dismiss_waiting(self, code: str, reason: str) -> None:
        """Refuse every ``open`` that still waits."""
        async with self._admitting:
            while self._waiting:
                entry, message, contract = self._waiting.popleft()
                answer = pack(Error(message.session, code, reason))
                await self._store.refuse(contract, answer=answer, request=pack(message))
                await self._inbox.settle([entry])

    @staticmethod
    def _is(waiting: tuple[Entry, Open, Contract], session: str, tenant: str) -> bool:
        return waiting[1].session == session and waiting[0].tenant == tenant

    # Committing

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Append every verdict to its log, then take it in, then acknowledge the rounds that are answered."""
        async with self._appending:
            # A session that was closed while its forward ran has no pending round any more.
            await self._commit([one for one in outcomes if one.pending in one.held.pending])
        if not all(self.holds(one.held) for one in outcomes):
            await self.admit()

    async def _commit(self, outcomes: Sequence[Outcome]) -> None:
        statuses = await self._append([self._commit_of(outcome) for outcome in outcomes])
        answered: list[Entry] = []
        for outcome, status in zip(outcomes, statuses, strict=True):
            held, verdict = outcome.held, outcome.verdict
            log.debug(
                "verdict",
                session=held.session,
                round=verdict.last_round,
                status=str(status),
                drafted=verdict.drafted,
                accepted=verdict.accepted,
            )
            # LENGTH: an earlier try arrived though its answer did not; nobody else can have moved a log that we own.
            if status in (CommitStatus.OK, CommitStatus.LENGTH):
                self._take_in(outcome)
            if outcome.final or status in (CommitStatus.GONE, CommitStatus.FENCED):
                answered.append(held.pending.popleft().entry)
            if outcome.closed is not None or status in (CommitStatus.GONE, CommitStatus.FENCED):
                answered.extend(await self._drop(held))
        await self._inbox.settle(answered)

    async def _append(self, commits: Sequence[Commit]) -> list[CommitStatus]:
        """Commit, however often Redis has to be asked: what arrived before its answer was lost is not appended again.

        Once the lease has lapsed the heartbeat ends this worker, and this with it.
        """
        while True:
            try:
                return await self._store.commit(commits)
            except RedisUnavailableError as error:
                log.warning("commit interrupted", reason=str(error))
                await asyncio.sleep(RETRY_S)

    def _take_in(self, outcome: Outcome) -> None:
        held, verdict = outcome.held, outcome.verdict
        held.state.commit(verdict, final=outcome.final)
        held.stops.extend(verdict.tokens)
        held.cached = verdict.base + verdict.accepted
        if not outcome.final:  # the rest of a grant waits from now on
            held.pending[0] = replace(outcome.pending, received_s=monotonic())

    def _commit_of(self, outcome: Outcome) -> Commit:
        state, verdict = outcome.held.state, outcome.verdict
        messages: list[Message] = [verdict] if outcome.closed is None else [verdict, outcome.closed]
        return Commit(
            owned=outcome.held.owned,
            expected_length=verdict.base,
            length=verdict.length,
            digest=verdict.digest,
            round=verdict.last_round if outcome.final else state.answered,
            branch=state.branch,
            closes=outcome.closed is not None,
            messages=[pack(message) for message in messages],
        )

    # Closing

    async def say(self, held: Held, message: Message) -> None:
        """Append a message that commits no token."""
        async with self._appending:
            await self._store.commit([_saying(held, message, closes=False)])

    async def fail(self, held: Held, code: str, reason: str) -> None:
        """End a session with an error."""
        log.info("session failed", session=held.session, code=code, reason=reason)
        async with self._appending:
            await self._close(held, Error(held.session, code, reason))
        await self.admit()

    async def cancel(self, held: Held) -> None:
        """End a session as its device asked."""
        async with self._appending:
            transcript, counts = held.state.transcript, held.state.counts
            receipt = Closed(
                session=held.session,
                reason=FinishReason.CANCELLED,
                length=transcript.length,
                digest=transcript.digest,
                rounds=counts.rounds,
                drafted=counts.drafted,
                accepted=counts.accepted,
                verified=counts.verified,
            )
            await self._close(held, receipt)
        await self.admit()

    async def _close(self, held: Held, message: Message) -> None:
        await self._store.commit([_saying(held, message, closes=True)])
        await self._inbox.settle(await self._drop(held))

    async def _drop(self, held: Held) -> list[Entry]:
        """Forget a session and return the entries that nobody waits for any more."""
        left = [pending.entry for pending in held.pending]
        held.pending.clear()
        if self._held.pop(held.session, None) is not None:
            await self._release(held.session)
        return left

    async def _release(self, session: str) -> None:
        await self._engine.run(self._engine.engine.release, session)


def _saying(held: Held, message: Message, *, closes: bool) -> Commit:
    """Return the commit of a message that leaves the text as it is."""
    state = held.state
    return Commit(
        owned=held.owned,
        expected_length=state.transcript.length,
        length=state.transcript.length,
        digest=state.transcript.digest,
        round=state.answered,
        branch=state.branch,
        closes=closes,
        messages=[pack(message)],
    )
