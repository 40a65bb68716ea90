"""The sessions of one verifier: opened while there is a place, committed to, closed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import monotonic

from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.sessions import Commit, SessionStore
from dsdq.contract import Contract, FinishReason
from dsdq.errors import RedisUnavailableError, RefusedError, WireError
from dsdq.models.tokenizer import Tokenizer
from dsdq.session import SessionState, Transcript
from dsdq.stopping import StopFinder
from dsdq.telemetry.logs import get_logger
from dsdq.wire import Closed, Error, ErrorCode, Message, Open, Opened, pack, unpack_contract
from workers.engine.planner import Planner
from workers.verifier import admission
from workers.verifier.commits import Commits
from workers.verifier.held import Held
from workers.verifier.step import Outcome

log = get_logger("verifier")

RETRY_S = 0.2


class Sessions:
    """What this verifier holds, and who waits to be let in."""

    def __init__(
        self,
        store: SessionStore,
        inbox: Inbox,
        planner: Planner,
        offer: admission.Offer,
        tokenizer: Tokenizer,
        *,
        worker: str,
        slots: int,
        on_open: Callable[[], None],
    ) -> None:
        self.commits = Commits(store, inbox, self._drop)
        self._store = store
        self._inbox = inbox
        self._planner = planner
        self._offer = offer
        self._tokenizer = tokenizer
        self._worker = worker
        self._slots = slots
        self._on_open = on_open
        self._held: dict[str, Held] = {}
        self._waiting: deque[tuple[Entry, Open, Contract]] = deque()
        self._admitting = asyncio.Lock()
        self._vacant = asyncio.Event()

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

    async def admit_forever(self) -> None:
        """Whenever a place becomes free, give it to who waits."""
        while True:
            await self._vacant.wait()
            self._vacant.clear()
            try:
                await self.admit()
            except RedisUnavailableError as error:
                log.warning("redis unavailable", reason=str(error))
                await asyncio.sleep(RETRY_S)
                self._vacant.set()

    async def admit(self) -> None:
        """Open what waits, first come first served, while there is a place."""
        async with self._admitting:
            while self._waiting and len(self._held) < self._slots:
                entry, message, contract = self._waiting[0]
                if message.session not in self._held:
                    await self._hold(message, contract)
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
            return
        state = SessionState(contract, transcript, owned.epoch, owned.owner)
        # Tenants share no prefixes: how fast a prompt is taken in must not tell what another tenant asked.
        self._planner.admit(message.session, salt=contract.tenant)
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

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Take every verdict in and queue it for its log; what it answers is acknowledged once it is there."""
        for outcome in outcomes:
            held, rounds = outcome.ready.held, outcome.ready.rounds
            # A session that was closed while its forward ran has no pending round any more.
            if not held.pending or held.pending[0] is not rounds[0]:
                continue
            commit = self._commit_of(outcome)
            self._take_in(outcome)
            answers: list[Entry] = []
            if outcome.final:
                answers += [held.pending.popleft().entry for _ in rounds]
            if outcome.closed is not None:
                answers += self._drop(held)
            self.commits.add(held, commit, answers)

    def _take_in(self, outcome: Outcome) -> None:
        held, verdict = outcome.ready.held, outcome.verdict
        held.state.commit(verdict, final=outcome.final)
        held.stops.extend(verdict.tokens)
        # A rejected draft leaves keys and values behind it, which the next row overwrites.
        self._planner.computed(held.session, held.state.transcript.tokens, verdict.base + verdict.accepted)
        if not outcome.final:  # the rest of a grant waits from now on
            held.pending[0] = replace(outcome.ready.rounds[0], received_s=monotonic())

    def _commit_of(self, outcome: Outcome) -> Commit:
        held, verdict = outcome.ready.held, outcome.verdict
        messages: list[Message] = [verdict] if outcome.closed is None else [verdict, outcome.closed]
        return Commit(
            owned=held.owned,
            expected_length=verdict.base,
            length=verdict.length,
            digest=verdict.digest,
            round=verdict.last_round if outcome.final else held.state.answered,
            branch=held.state.branch,
            closes=outcome.closed is not None,
            messages=[pack(message) for message in messages],
        )

    # Closing

    def say(self, held: Held, message: Message) -> None:
        """Append a message that commits no token."""
        self.commits.add(held, _saying(held, message, closes=False))

    def fail(self, held: Held, code: str, reason: str, answers: Sequence[Entry] = ()) -> None:
        """End a session with an error, which also answers ``answers``."""
        log.info("session failed", session=held.session, code=code, reason=reason)
        self._close(held, Error(held.session, code, reason), answers)

    def cancel(self, held: Held, entry: Entry) -> None:
        """End a session as its device asked with ``entry``."""
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
        self._close(held, receipt, [entry])

    def _close(self, held: Held, message: Message, answers: Sequence[Entry]) -> None:
        commit = _saying(held, message, closes=True)
        self.commits.add(held, commit, [*answers, *self._drop(held)])

    def _drop(self, held: Held) -> list[Entry]:
        """Forget a session and return the entries that nobody waits for any more."""
        left = [pending.entry for pending in held.pending]
        held.pending.clear()
        if self._held.get(held.session) is held:
            del self._held[held.session]
            self._planner.release(held.session)
            self._vacant.set()
        return left


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
