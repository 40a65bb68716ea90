"""The sessions of one verifier: opened while there is a place, taken over from others, committed to, closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from time import monotonic

from dsdq.bus.dead import Kind
from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.sessions import Commit, CommitStatus, Owned, Place, SessionStore, place_of
from dsdq.contract import Contract, FinishReason
from dsdq.errors import RedisUnavailableError, RefusedError, WireError
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.places import Places, Turnover, refusal_ms
from dsdq.receipts import Signer
from dsdq.session import SessionState, Transcript
from dsdq.stopping import StopFinder
from dsdq.telemetry import traces
from dsdq.telemetry.logs import get_logger
from dsdq.wire import Closed, Decode, Draft, Error, ErrorCode, Message, Open, pack, unpack_contract
from workers.engine.planner import Planner
from workers.verifier import admission
from workers.verifier.commits import Commits, closing, deciding, saying
from workers.verifier.figures import Figures
from workers.verifier.held import Held, Pending, key_of
from workers.verifier.limits import Limits
from workers.verifier.spending import Spending
from workers.verifier.step import Outcome
from workers.verifier.waiting import Waiting, WaitingRoom

log = get_logger("verifier")

RETRY_S = 0.2


class Sessions:
    """What this verifier holds, and who waits to be let in.

    ``on_ready`` is called when a session could use a step. ``astray`` has the places of sessions that are this worker's
    but not as it thought, with the entries that have to be taken in once more. ``unowned`` are entries of sessions that
    another took from this one: theirs to answer if they have this worker's inboxes too, else nobody's, since their
    devices repeat them to the new owner.
    """

    def __init__(  # noqa: PLR0913 - what a session needs of a verifier's parts, each named
        self,
        store: SessionStore,
        inbox: Inbox,
        planner: Planner,
        offer: admission.Offer,
        tokenizer: Tokenizer,
        spending: Spending,
        signer: Signer | None,
        figures: Figures,
        *,
        worker: str,
        limits: Limits,
        on_ready: Callable[[], None],
    ) -> None:
        self.spending, self.figures = spending, figures
        self.commits = Commits(store, inbox, self._lose, spending.ended)
        self.astray: asyncio.Queue[tuple[Place, Sequence[Entry]]] = asyncio.Queue()
        self.unowned: list[Entry] = []
        self._store, self._inbox = store, inbox
        self._planner = planner
        self._offer = offer
        self._tokenizer = tokenizer
        self._signer = signer
        self._worker = worker
        self._limits = limits
        self._on_ready = on_ready
        self._held: dict[str, Held] = {}
        self._waiting = WaitingRoom()
        self._places, self._turnover = Places(limits.slots), Turnover(limits.slots)
        self._admitting = asyncio.Lock()
        self._vacant = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of open sessions."""
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        """Give the open sessions as they are now; the caller may close some on the way."""
        return iter(list(self._held.values()))

    @property
    def room(self) -> int:
        """Return how many more sessions have a place here, whoever's they are."""
        return self._places.free(len(self._held))

    @property
    def waiting(self) -> int:
        """Return how many opens wait for a place."""
        return sum(map(self._waiting.count, self._waiting.tenants))

    def has_place(self, tenant: str) -> bool:
        """Say whether one more session of a tenant has a place here."""
        return self._places.has(tenant, [one.tenant for one in self], self._waiting.tenants, self._planner.fair.weight)

    def lend_places(self, quiet: Iterable[Held]) -> None:
        """Let whoever waits have the places of these sessions while their devices are silent."""
        self._places.quiet = {held.key for held in quiet if self.holds(held)}
        self._vacant.set()

    def holds(self, held: Held) -> bool:
        """Say whether a session is still open."""
        return self._held.get(held.key) is held

    def find(self, session: str, tenant: str) -> Held | None:
        """Return an open session of this tenant; another tenant's does not exist for it."""
        return self._held.get(key_of(tenant, session))

    def is_taken(self, place: Place) -> bool:
        """Say whether a session of another producer has this one's name and tenant here."""
        held = self.find(place.session, place.tenant)
        return held is not None and held.place != place

    # Opening

    async def receive(self, entry: Entry, message: Open, contract: Contract) -> None:
        """Refuse an ``open``, or let it wait for a place; it stays in the inbox until it has one.

        So it does until a round that came with it is answered. More of one tenant than may wait are buried.
        """
        try:
            unpack_contract(message.contract)
            admission.check(self._offer, contract, message.prompt)
            self._check_name(contract)
        except (RefusedError, WireError) as error:
            refusal = error if isinstance(error, RefusedError) else RefusedError(ErrorCode.TERMS_INVALID, str(error))
            await self.refuse(entry, message, contract, refusal)
            return
        held = self.find(contract.session, contract.tenant)
        if held is not None:  # asked again, or left by the verifier that it was taken over from
            await self._begin(held, entry, message)
            return
        if self._waiting.find(contract.session, contract.tenant) is not None:  # asked again while it waits
            await self._inbox.settle([entry])
        elif self._waiting.count(contract.tenant) >= self._limits.most_waiting:
            reason = f"more than {self._limits.most_waiting} opens of tenant {contract.tenant} waited for a place"
            self._inbox.condemn(entry, Kind.FLOOD, reason)
        else:
            self._waiting.add(Waiting(entry, message, contract))
        await self.admit()

    async def refuse(self, entry: Entry, message: Open, contract: Contract, refusal: RefusedError) -> None:
        """Answer an ``open`` with an error, where its device looks for it, and settle it."""
        await self.answer_with(message, contract, refusal)
        await self._inbox.settle([entry])

    async def answer_with(self, message: Open, contract: Contract, refusal: RefusedError) -> None:
        """Answer an ``open`` with an error, where its device looks for it."""
        log.info("refused", session=message.session, code=refusal.code)
        self.figures.refused(refusal.code)
        packed = pack(admission.error_of(message.session, refusal), contract.version)
        await self._store.refuse(contract, answer=packed, request=pack(message, contract.version))

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
            while (waiting := self._waiting.first(self.has_place)) is not None:
                held = await self._admit(waiting)
                self._waiting.remove(waiting)
                await self._begin(held, waiting.entry, waiting.message)
        await self.tell()

    async def tell(self) -> None:
        """Say whose next open would wait too long, where devices see it before they send one."""
        if self.room:
            refusals = {}
        else:
            now_s = monotonic()
            place_ms = self._turnover.place_ms([now_s - held.opened_s for held in self._held.values()])
            waits = {tenant: self._waiting.turns(tenant) for tenant in self._inbox.tenants}
            refusals = {
                who: ms
                for who, turns in waits.items()
                if not self.has_place(who) and (ms := refusal_ms(turns, place_ms, self._limits.place_wait_ms))
            }
        with contextlib.suppress(RedisUnavailableError):  # the next heartbeat says it
            await self._inbox.refuse_opens(refusals)

    async def _admit(self, waiting: Waiting) -> Held | None:
        held = self.find(waiting.contract.session, waiting.contract.tenant)
        try:
            self._check_name(waiting.contract)  # another's may have been taken over while this one waited
            if held is None:
                await self.spending.reserve(waiting.contract)
        except RefusedError as refusal:
            await self.answer_with(waiting.message, waiting.contract, refusal)
            return None
        return held or await self._hold(waiting.message, waiting.contract)

    async def _begin(self, held: Held | None, entry: Entry, message: Open) -> None:
        """Let the round wait that came with an ``open``, in its entry; without one the entry is settled."""
        if held is not None and held.state.transcript.began_as(message.contract, message.prompt):
            text = held.state.transcript
            first = message.first_round(text.digest_at(text.prompt_tokens))
            if first is not None:
                self.let_wait(held, entry, first)
                return
        await self._inbox.settle([entry])

    def _check_name(self, contract: Contract) -> None:
        """Return when no other producer of the tenant has a session of this name here, open or waiting.

        Raises:
            RefusedError: one has. It is answered in the log of the producer that asks, and is nobody else's to see.
        """
        waiting = self._waiting.find(contract.session, contract.tenant)
        waits = waiting is not None and waiting.contract.producer != contract.producer
        if waits or self.is_taken(place_of(contract)):
            raise RefusedError(
                ErrorCode.NAME_TAKEN,
                f"expected a name that no other producer of tenant {contract.tenant} has for a session here, got "
                f"{contract.session}; open a session of another name",
            )

    async def _hold(self, message: Open, contract: Contract) -> Held | None:
        transcript = Transcript(message.contract, message.prompt)
        with_round = message.first_round(transcript.digest) is not None
        opened = replace(admission.opened(self._offer, self._worker, contract, transcript, 1), with_round=with_round)
        owned = await self._store.open(
            contract,
            length=transcript.length,
            digest=transcript.digest,
            answer=pack(opened, contract.version),
            request=pack(message, contract.version),
        )
        if owned is not None:
            log.info("opened", session=contract.session, tenant=contract.tenant, producer=contract.producer)
            return self.keep(SessionState(contract, transcript, owned.epoch, owned.owner), owned, entries=1)
        head = await self._store.head(place_of(contract))
        if head is not None and head.is_open and head.worker == self._worker:
            self.astray.put_nowait((place_of(contract), ()))  # we opened it, and did not hear that we had
        else:  # a repeated open: its answer is in the log
            await self._store.disown(contract)
            if head is None or not head.is_open:
                self.spending.never(contract)
        return None

    def keep(self, state: SessionState, owned: Owned, entries: int) -> Held:
        """Hold a session from now on."""
        contract, transcript = state.contract, state.transcript
        key = key_of(contract.tenant, contract.session)
        # Tenants share no prefixes: how fast a prompt is taken in must not tell what another tenant asked.
        self._planner.admit(key, salt=contract.tenant)
        stops = StopFinder(self._tokenizer.stream(), contract.stop_strings)
        stops.extend(transcript.tokens[transcript.prompt_tokens :])
        held = self._held[key] = Held(state, owned, monotonic(), stops, entries)
        self._on_ready()
        return held

    def let_wait(self, held: Held, entry: Entry, message: Draft | Decode) -> None:
        """Let a round wait for a step; settle what does not."""
        self._places.quiet.discard(held.key)
        left = held.receive(Pending(entry, message, monotonic()), self._limits.depth)
        self.commits.settle(held, [one.entry for one in left])
        self._on_ready()

    async def forget_waiting(self, session: str, tenant: str, producer: str | None) -> bool:
        """Drop an ``open`` that still waits, of ``producer`` if that is known; say whether there was one."""
        async with self._admitting:
            waiting = self._waiting.find(session, tenant)
            if waiting is None or producer not in (None, waiting.contract.producer):
                return False
            self._waiting.remove(waiting)
        await self._inbox.settle([waiting.entry])
        await self.tell()
        return True

    # Losing

    def abandon(self, place: Place) -> None:
        """Forget a session that another verifier has taken; what it was sent is that one's to answer."""
        if (held := self.find(place.session, place.tenant)) is not None:
            held.lost = True
            self.unowned += self._drop(held)

    async def drop_strays(self) -> None:
        """Forget sessions that another worker took from this one."""
        mine = {str(place) for place in await self._store.places(self._worker)}
        for held in self:
            if str(held.place) not in mine and not held.in_flight():
                self.abandon(held.place)

    def _lose(self, held: Held, status: CommitStatus, answered: Sequence[Entry]) -> Sequence[Entry]:
        """Forget a session that is not as we thought; return the waiting entries that nobody else will answer."""
        left = self._drop(held)
        log.info("lost session", session=held.session, status=str(status))
        if status is CommitStatus.BEHIND:
            self.astray.put_nowait((held.place, [*answered, *left]))
        if status is CommitStatus.FENCED:
            self.unowned += [*answered, *left]
        return left if status is CommitStatus.GONE else ()

    # Committing

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Take every verdict in and queue it for its log; what it answers is acknowledged once it is there."""
        verdicts = []
        for outcome in outcomes:
            held, rounds = outcome.ready.held, outcome.ready.rounds
            # A session that was closed while its forward ran has no pending round any more.
            if not held.pending or held.pending[0] is not rounds[0]:
                continue
            closed = None if outcome.closed is None else self._signed(outcome.closed)
            commit = deciding(outcome, closed, self._planner.grace_s)
            self._take_in(outcome)
            answers = held.answer(len(rounds) if outcome.final else 0)
            if closed is not None:
                answers += self._drop(held)
                self._ended(closed)
            self._queue(held, commit, answers)
            verdicts.append((held.tenant, outcome.verdict))
            traces.record_verdict(outcome.verdict, rounds[0].received_s, self._worker)
        self.figures.decided(verdicts)

    def _take_in(self, outcome: Outcome) -> None:
        held, verdict = outcome.ready.held, outcome.verdict
        held.state.commit(verdict, final=outcome.final, granted=outcome.ready.granted)
        held.note(verdict, granted=outcome.ready.granted)
        held.stops.extend(verdict.tokens)
        # A rejected draft leaves keys and values behind it, which the next row overwrites.
        self._planner.computed(held.key, held.state.transcript.tokens, verdict.base + verdict.accepted)
        held.go_on(monotonic(), final=outcome.final)

    # Closing

    def say(self, held: Held, message: Message) -> None:
        """Append a message that commits no token."""
        self._queue(held, saying(held.state, held.owned, held.entries, message))

    def fail(self, held: Held, code: str, reason: str, answers: Sequence[Entry] = ()) -> None:
        """End a session with an error, which also answers ``answers``."""
        self._close(held, Error(held.session, code, reason), answers)

    async def keep_opening(self, place: Place, opening: bytes, reason: str, attempts: int) -> None:
        """Keep for people what a session was opened with whose text nobody can feed."""
        await self._inbox.keep(place.tenant, place.session, opening, reason, attempts)

    def cancel(self, held: Held, entry: Entry) -> None:
        """End a session as its device asked with ``entry``."""
        self._close(held, self._receipt(held, FinishReason.CANCELLED), [entry])

    def expire(self, held: Held) -> None:
        """End a session with which its device has not gone on for too long."""
        self._close(held, self._receipt(held, FinishReason.EXPIRED))

    def _receipt(self, held: Held, reason: FinishReason) -> Closed:
        text = held.state.transcript
        return self._signed(held.state.counts.receipt(held.session, reason, text.length, text.digest))

    def _signed(self, closed: Closed) -> Closed:
        return closed if self._signer is None else self._signer.sign(closed)

    def _close(self, held: Held, message: Closed | Error, answers: Sequence[Entry] = ()) -> None:
        self._ended(message)
        commit = closing(held, message, self._planner.grace_s)
        self._queue(held, commit, [*answers, *self._drop(held)])

    def _ended(self, message: Closed | Error) -> None:
        how = str(message.reason) if isinstance(message, Closed) else f"{message.code}: {message.message}"
        log.info("ended", session=message.session, how=how)
        self.figures.ended(message)

    def _queue(self, held: Held, commit: Commit, answers: Sequence[Entry] = ()) -> None:
        held.entries += len(commit.messages)
        self.commits.add(held, commit, answers)

    def _drop(self, held: Held) -> list[Entry]:
        """Forget a session and return the entries that nobody waits for any more."""
        left = [pending.entry for pending in held.in_flight()]
        held.pending.clear()
        held.ahead.clear()
        if self._held.get(held.key) is held:
            del self._held[held.key]
            self._places.quiet.discard(held.key)
            self._planner.release(held.key)
            self._turnover.ended(monotonic() - held.opened_s)
            self._vacant.set()
        return left
