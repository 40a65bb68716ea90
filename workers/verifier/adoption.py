"""Take a session over and rebuild it from its log: from a verifier that died, that is crowded, or from oneself.

From oneself, where what we think of a session and what its log says have come apart: an ``open`` whose success we did
not hear of, or a log whose last entries Redis has lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from dsdq.bus.inbox import Entry
from dsdq.bus.registry import Registry
from dsdq.bus.sessions import APPENDED, LogEntry, Owned, Place, SessionStore, Taken
from dsdq.contract import Contract
from dsdq.errors import RedisUnavailableError, SessionError, WireError
from dsdq.session import SessionState, replay
from dsdq.telemetry.logs import get_logger
from dsdq.wire import ErrorCode, Open, Opened, unpack, unpack_contract
from workers.verifier.admission import Offer, opened
from workers.verifier.commits import saying
from workers.verifier.held import Held
from workers.verifier.sessions import Sessions
from workers.verifier.tenancy import Tenancy

log = get_logger("verifier")

RETRY_S = 0.2
MOST_TRIES = 3  # verifiers that may die in a step with the same thing before nobody tries again


class Adoption:
    """Makes ``sessions`` hold what others, or nobody, held."""

    def __init__(
        self,
        store: SessionStore,
        registry: Registry,
        sessions: Sessions,
        offer: Offer,
        tenancy: Tenancy,
        worker: str,
    ) -> None:
        self._registry = registry
        self._store = store
        self._sessions = sessions
        self._offer = offer
        self._tenancy = tenancy
        self._worker = worker
        self._adopting: dict[Place, asyncio.Event] = {}

    async def adopt(self, place: Place, former: str) -> Held | None:
        """Take a session over from ``former`` and rebuild it from its log.

        None where nothing is to be taken over (it is closed or about to be, or another's by now), or where this
        verifier would not go on as the session was promised.
        """
        if place.tenant in self._tenancy.roster.unheard:
            return None  # for a verifier that can read its secret to go on with
        if (adopted := self._adopting.get(place)) is not None:  # a message came before it was done
            await adopted.wait()
            return self._sessions.find(place.session, place.tenant)
        # To take a session over from oneself would fence the end that was decided and is being written.
        if self._sessions.commits.closes(place):
            return None
        adopted = self._adopting[place] = asyncio.Event()
        try:
            return await self._adopt(place, former)
        except (WireError, SessionError) as error:
            log.warning("log unreadable", session=place.session, reason=str(error))
            return None
        finally:
            del self._adopting[place]
            adopted.set()

    def cannot_hear(self, tenants: Iterable[str]) -> bool:
        """Say whether one of these tenants must seal with a secret that cannot be read here."""
        return not self._tenancy.roster.unheard.isdisjoint(tenants)

    async def recall(self, place: Place) -> bool:
        """Hold a session that is ours by its head, or an orphan's; say whether any session of that place exists.

        An orphan's owner has lapsed. Whoever takes over what that one left may not find the session: it may have been
        opened afterwards, by a word to Redis that was late.
        """
        head = await self._store.head(place)
        if head is not None and head.is_open:
            ours = head.worker == self._worker
            if ours or await self._registry.has_lapsed(self._offer.target, head.worker):
                await self.adopt(place, head.worker)
        return head is not None

    async def is_open(self, place: Place) -> bool:
        """Say whether a session is open, here or elsewhere."""
        head = await self._store.head(place)
        return head is not None and head.is_open

    async def repair_forever(self, take: Callable[[Entry], Awaitable[None]]) -> None:
        """Rebuild the sessions that ``sessions`` has lost touch with, and take their messages in again."""
        while True:
            place, entries = await self._sessions.astray.get()
            while True:
                try:
                    # A message may have called it back before its turn came here.
                    if self._sessions.find(place.session, place.tenant) is None:
                        await self.adopt(place, self._worker)
                    for entry in entries:
                        await take(entry)
                    break
                except RedisUnavailableError as error:
                    log.warning("redis unavailable", reason=str(error))
                    await asyncio.sleep(RETRY_S)

    async def _adopt(self, place: Place, former: str) -> Held | None:
        entries = await self._store.entries(place)
        if entries and not self._suits(entries):
            return None
        if former != self._worker and (held := await self._held_already(place)) is not None:
            await self._store.moved(place, former)  # we were told of it twice
            return held
        if self._sessions.is_taken(place):
            return None
        deaths = await self._store.deaths(place, former)
        taken = await self._store.take_over(place, former)
        if taken is None:
            return None
        self._sessions.abandon(place)  # we held it before its former owner took it from us
        # Complete from here on: the former owner is fenced.
        entries += await self._store.entries(place, after=len(entries))
        if deaths >= MOST_TRIES:
            await self._sessions.keep_opening(place, entries[0].request or b"", _too_many(deaths), deaths)
        held = await self._rebuild(entries, taken, deaths)
        if held is None:
            return None
        if deaths:  # should this worker die before its first step with it, its heir must know as much
            await self._store.note_deaths({place: deaths if self._sessions.holds(held) else 0})
        await self._store.moved(place, former)
        self._sessions.figures.takeovers += former != self._worker
        log.info("took over", session=place.session, former=former, epoch=taken.epoch)
        return held

    async def _held_already(self, place: Place) -> Held | None:
        """Return the session if it is ours by its head too, and not only because nobody has told us otherwise yet."""
        held = self._sessions.find(place.session, place.tenant)
        if held is None:
            return None
        head = await self._store.head(place)
        return held if head is not None and head.worker == self._worker else None

    def _suits(self, entries: Sequence[LogEntry]) -> bool:
        """Say whether this verifier goes on as the session was promised."""
        _, contract = _opening(entries)
        promised = [one for one in map(unpack, _messages(entries)) if isinstance(one, Opened)]
        revision = promised[-1].target_revision if promised else self._offer.target_revision
        return revision == self._offer.target_revision and contract.numerics in ("", self._offer.numerics)

    async def _rebuild(self, entries: Sequence[LogEntry], taken: Taken, deaths: int) -> Held | None:
        opening, _ = _opening(entries)
        contract, transcript, counts = replay(opening, map(unpack, _messages(entries)))
        state = SessionState(contract, transcript, taken.epoch, taken.owner, taken.round, taken.branch, counts)
        owned = Owned(contract, taken.epoch, taken.owner)
        message = opened(self._offer, self._worker, contract, transcript, taken.epoch)
        (status,) = await self._store.commit([saying(state, owned, len(entries), message)])
        if status not in APPENDED:
            return None
        held = self._sessions.keep(state, owned, len(entries) + 1)
        held.inherited, held.deaths = True, deaths
        if deaths >= MOST_TRIES:  # before anybody steps with it
            self._sessions.fail(held, ErrorCode.INTERNAL, _too_many(deaths))
        return held


def _too_many(deaths: int) -> str:
    return f"{deaths} verifiers fed its text and died"


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
