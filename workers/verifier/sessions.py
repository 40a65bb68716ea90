"""The sessions of one verifier: opened while there is a place, taken over from others, committed to, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from time import monotonic

from dsdq import keys
from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.sessions import Commit, CommitStatus, LogEntry, Owned, Place, SessionStore, Taken, place_of
from dsdq.contract import Contract, FinishReason
from dsdq.errors import RedisUnavailableError, RefusedError, SessionError, WireError
from dsdq.models.tokenizer import Tokenizer
from dsdq.session import SessionState, Transcript, replay
from dsdq.stopping import StopFinder
from dsdq.telemetry.logs import get_logger
from dsdq.wire import Closed, Error, ErrorCode, Message, Open, Opened, pack, unpack, unpack_contract
from workers.engine.planner import Planner
from workers.verifier import admission
from workers.verifier.commits import FINE, Commits
from workers.verifier.held import Held
from workers.verifier.step import Outcome
from workers.verifier.waiting import Waiting, WaitingRoom

log = get_logger("verifier")

RETRY_S = 0.2


class Sessions:
    """What this verifier holds, and who waits to be let in.

    ``on_ready`` is called when a session could use a step. ``again`` is given entries whose session turned out to be
    behind what we thought, to be taken in once more.
    """

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
        on_ready: Callable[[], None],
    ) -> None:
        self.commits = Commits(store, inbox, self._lose)
        self.again: asyncio.Queue[tuple[Held, Sequence[Entry]]] = asyncio.Queue()
        self._store = store
        self._inbox = inbox
        self._planner = planner
        self._offer = offer
        self._tokenizer = tokenizer
        self._worker = worker
        self._slots = slots
        self._on_ready = on_ready
        self._held: dict[str, Held] = {}
        self._waiting = WaitingRoom()
        self._admitting = asyncio.Lock()
        self._adopting: set[str] = set()
        self._vacant = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of open sessions."""
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        """Give the open sessions as they are now; the caller may close some on the way."""
        return iter(list(self._held.values()))

    @property
    def room(self) -> int:
        """Return how many more sessions have a place here."""
        return max(self._slots - len(self._held), 0)

    def holds(self, held: Held) -> bool:
        """Say whether a session is still open."""
        return self._held.get(held.session) is held

    def find(self, session: str, tenant: str) -> Held | None:
        """Return an open session of this tenant; another tenant's does not exist for it."""
        held = self._held.get(session)
        return held if held is not None and held.state.contract.tenant == tenant else None

    # Opening

    async def receive(self, entry: Entry, message: Open) -> None:
        """Refuse an ``open``, or let it wait for a place; it stays in the inbox until it has one."""
        # Terms that are not known here still say whose session it is: enough to refuse it where its device looks.
        contract = unpack_contract(message.contract, with_unknown=True)
        if contract.tenant != entry.tenant:
            await self._inbox.bury(entry, f"the contract names tenant {contract.tenant}, another than its inbox")
            return
        try:
            unpack_contract(message.contract)
            admission.check(self._offer, contract, message.prompt)
        except (RefusedError, WireError) as refusal:
            code = refusal.code if isinstance(refusal, RefusedError) else ErrorCode.TERMS_INVALID
            await self.refuse(message, contract, code, str(refusal))
            await self._inbox.settle([entry])
            return
        if not self._waiting.add(Waiting(entry, message, contract)):  # asked again while it waits
            await self._inbox.settle([entry])
        await self.admit()

    async def refuse(self, message: Open, contract: Contract, code: str, reason: str) -> None:
        """Answer an ``open`` with an error, where its device looks for it."""
        log.info("refused", session=message.session, code=code)
        answer = pack(Error(message.session, code, reason))
        await self._store.refuse(contract, answer=answer, request=pack(message))

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
        """Open what waits, while there is a place."""
        async with self._admitting:
            while self.room and (waiting := self._waiting.first()) is not None:
                if waiting.message.session not in self._held:
                    await self._hold(waiting.message, waiting.contract)
                self._waiting.remove(waiting)
                await self._inbox.settle([waiting.entry])

    async def _hold(self, message: Open, contract: Contract) -> None:
        transcript = Transcript(message.contract, message.prompt)
        owned = await self._store.open(
            contract,
            length=transcript.length,
            digest=transcript.digest,
            answer=pack(self._opened(contract, transcript, 1)),
            request=pack(message),
        )
        if owned is not None:
            self._keep(SessionState(contract, transcript, owned.epoch, owned.owner), owned, entries=1)
            return
        head = await self._store.head(place_of(contract))
        if head is not None and head.is_open and head.worker == self._worker:
            # We opened it, and did not hear that we had.
            await self.adopt(place_of(contract), self._worker)
        else:  # a repeated open: its answer is in the log
            await self._store.disown(contract)

    def _opened(self, contract: Contract, transcript: Transcript, epoch: int) -> Opened:
        return Opened(
            session=contract.session,
            worker=self._worker,
            epoch=epoch,
            numerics=self._offer.numerics,
            target_revision=self._offer.target_revision,
            length=transcript.length,
            digest=transcript.digest,
            max_window=contract.max_window,
            context_tokens=self._offer.context_tokens,
        )

    def _keep(self, state: SessionState, owned: Owned, entries: int) -> Held:
        contract, transcript = state.contract, state.transcript
        # Tenants share no prefixes: how fast a prompt is taken in must not tell what another tenant asked.
        self._planner.admit(contract.session, salt=contract.tenant)
        stops = StopFinder(self._tokenizer.stream(), contract.stop_strings)
        stops.extend(transcript.tokens[transcript.prompt_tokens :])
        held = self._held[contract.session] = Held(state, owned, monotonic(), stops, entries)
        self._on_ready()
        return held

    async def forget_waiting(self, session: str, tenant: str) -> bool:
        """Drop an ``open`` that still waits; say whether there was one."""
        async with self._admitting:
            waiting = self._waiting.find(session, tenant)
            if waiting is None:
                return False
            self._waiting.remove(waiting)
        await self._inbox.settle([waiting.entry])
        return True

    # Taking over

    async def adopt(self, place: Place, former: str) -> Held | None:
        """Take a session over from ``former`` and rebuild it from its log.

        None where nothing is to be taken over (it is closed, or another's by now), or where this verifier would not
        give the same text.
        """
        if place.session in self._adopting:
            return None
        self._adopting.add(place.session)
        try:
            return await self._adopt(place, former)
        except (WireError, SessionError) as error:
            log.warning("log unreadable", session=place.session, reason=str(error))
            return None
        finally:
            self._adopting.discard(place.session)

    async def _adopt(self, place: Place, former: str) -> Held | None:
        entries = await self._store.entries(place)
        if entries and not self._suits(entries):
            return None
        taken = await self._store.take_over(place, former)
        if taken is None:
            return None
        if (stale := self._held.get(place.session)) is not None:  # we held it before its former owner took it from us
            stale.lost = True
            self._drop(stale)
        # Complete from here on: the former owner is fenced.
        entries += await self._store.entries(place, after=len(entries))
        held = await self._rebuild(entries, taken)
        if held is not None:
            await self._store.moved(place, former)
            log.info("took over", session=place.session, former=former, epoch=taken.epoch)
        return held

    def _suits(self, entries: Sequence[LogEntry]) -> bool:
        """Say whether this verifier goes on as the session was promised."""
        last = next(one for one in map(unpack, _messages(reversed(entries))) if isinstance(one, Opened))
        pinned = _opening(entries)[1].numerics
        return last.target_revision == self._offer.target_revision and pinned in ("", self._offer.numerics)

    async def _rebuild(self, entries: Sequence[LogEntry], taken: Taken) -> Held | None:
        opening, _ = _opening(entries)
        contract, transcript, counts = replay(opening, map(unpack, _messages(entries)))
        state = SessionState(contract, transcript, taken.epoch, taken.owner, taken.round, taken.branch, counts)
        owned = Owned(contract, taken.epoch, taken.owner)
        message = self._opened(contract, transcript, taken.epoch)
        (status,) = await self._store.commit([_saying(state, owned, len(entries), message, closes=False)])
        return self._keep(state, owned, len(entries) + 1) if status in FINE else None

    async def recall(self, entry: Entry, session: str) -> Held | None:
        """Return the session of a message that is not held here, if it should be; else deal with the message.

        What was answered, or is another verifier's to answer, is settled: a device repeats what it has no answer to,
        to whoever owns the session then. What belongs to no session at all is kept for people.
        """
        place = Place(entry.producer, entry.tenant, session)
        head = await self._store.head(place) if keys.NAME.fullmatch(entry.producer) else None
        if head is not None and head.is_open and head.worker == self._worker:
            return await self.adopt(place, self._worker)
        if head is None:
            await self._inbox.bury(entry, f"unknown session {session}")
        else:
            await self._inbox.settle([entry])
        return None

    async def readopt_forever(self, take: Callable[[Entry], Awaitable[object]]) -> None:
        """Rebuild sessions whose logs ended before what we thought, and take their messages in again."""
        while True:
            held, entries = await self.again.get()
            while True:
                try:
                    await self.adopt(held.place, self._worker)
                    for entry in entries:
                        await take(entry)
                    break
                except RedisUnavailableError as error:
                    log.warning("redis unavailable", reason=str(error))
                    await asyncio.sleep(RETRY_S)

    def _lose(self, held: Held, status: CommitStatus, answered: Sequence[Entry]) -> Sequence[Entry]:
        """Forget a session that is not as we thought; return the waiting entries that nobody else will answer."""
        left = self._drop(held)
        log.info("lost session", session=held.session, status=str(status))
        if status is CommitStatus.BEHIND:
            self.again.put_nowait((held, [*answered, *left]))
        return left if status is CommitStatus.GONE else ()

    async def drop_strays(self) -> None:
        """Forget sessions that another worker took from this one."""
        mine = {str(place) for place in await self._store.places(self._worker)}
        for held in self:
            if str(held.place) not in mine and not held.in_flight():
                held.lost = True
                self._drop(held)

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
            else:
                held.revive()
            self._queue(held, commit, answers)

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
            entries=held.entries,
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
        self._queue(held, _saying(held.state, held.owned, held.entries, message, closes=False))

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
        commit = _saying(held.state, held.owned, held.entries, message, closes=True)
        self._queue(held, commit, [*answers, *self._drop(held)])

    def _queue(self, held: Held, commit: Commit, answers: Sequence[Entry] = ()) -> None:
        held.entries += len(commit.messages)
        self.commits.add(held, commit, answers)

    def _drop(self, held: Held) -> list[Entry]:
        """Forget a session and return the entries that nobody waits for any more."""
        left = [pending.entry for pending in held.in_flight()]
        held.pending.clear()
        held.ahead.clear()
        if self._held.get(held.session) is held:
            del self._held[held.session]
            self._planner.release(held.session)
            self._vacant.set()
        return left


def _saying(state: SessionState, owned: Owned, entries: int, message: Message, *, closes: bool) -> Commit:
    """Return the commit of a message that leaves the text as it is, to a log that has ``entries`` entries."""
    return Commit(
        owned=owned,
        entries=entries,
        expected_length=state.transcript.length,
        length=state.transcript.length,
        digest=state.transcript.digest,
        round=state.answered,
        branch=state.branch,
        closes=closes,
        messages=[pack(message)],
    )


def _messages(entries: Iterable[LogEntry]) -> Iterator[bytes]:
    return (entry.message for entry in entries)


def _opening(entries: Sequence[LogEntry]) -> tuple[Open, Contract]:
    """Return the request that a log begins with, and its contract.

    Raises:
        WireError: there is none.
    """
    request = unpack(entries[0].request or b"") if entries else None
    if not isinstance(request, Open):
        msg = "expected a log that begins with the open that it answers"
        raise WireError(msg)
    return request, unpack_contract(request.contract)
