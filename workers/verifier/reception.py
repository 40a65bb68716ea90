"""What is done with a message that comes in: who sent it, what it is, whose session it is for.

Whatever is wrong with it, the worker lives on: it is answered where its device looks, or kept for people.
"""

from __future__ import annotations

import contextlib
from time import monotonic

from dsdq import keys
from dsdq.bus.dead import Kind
from dsdq.bus.inbox import Entry, Inbox
from dsdq.bus.sessions import Place, place_of
from dsdq.errors import RefusedError, SealError, WireError
from dsdq.sealing import Keyring, Seal
from dsdq.telemetry.logs import get_logger
from dsdq.wire import Cancel, Decode, Draft, ErrorCode, Message, Open, answer_to, unpack, unpack_contract
from workers.verifier.adoption import Adoption
from workers.verifier.gate import check_speaker, examine
from workers.verifier.held import Held
from workers.verifier.sessions import Sessions
from workers.verifier.tenancy import Tenancy

log = get_logger("verifier")


class Reception:
    """Takes messages in."""

    def __init__(
        self,
        inbox: Inbox,
        sessions: Sessions,
        adoption: Adoption,
        keyring: Keyring,
        tenancy: Tenancy,
    ) -> None:
        self._inbox = inbox
        self._sessions = sessions
        self._adoption = adoption
        self._keyring = keyring
        self._tenancy = tenancy

    async def take(self, entry: Entry) -> None:
        """Take one message in."""
        await self.hear(entry)
        await self._inbox.bury_condemned()

    async def hear(self, entry: Entry) -> None:
        """Take one of several messages in; what has to be buried is condemned, for the caller to bury with others."""
        try:
            await self._take(entry, examine(entry.fields, entry.tenant, self._keyring))
        except SealError as error:
            log.warning("forged", entry=entry.id, tenant=entry.tenant, reason=str(error))
            self._inbox.condemn(entry, Kind.FORGED, str(error))

    async def _take(self, entry: Entry, seal: Seal | None) -> None:
        """Take in what its seal does not speak against; raise :class:`SealError` where it does after all."""
        try:
            message = unpack(entry.payload)
        except WireError as error:
            await self._refuse(entry, error, seal)
            return
        if isinstance(message, Open):
            await self._open(entry, message, seal)
        elif isinstance(message, Draft | Decode | Cancel):
            await self._route(entry, message, seal)
        else:
            name = type(message).__name__.lower()
            self._inbox.condemn(entry, Kind.NOT_A_REQUEST, f"not a device's message: {name}")

    def session_of(self, entry: Entry) -> str | None:
        """Return the session that is held here to which a message belongs."""
        message = self._heard(entry)
        if message is None or self._sessions.find(message.session, entry.tenant) is None:
            return None
        return message.session

    async def takes(self, entry: Entry) -> bool:
        """Say whether this verifier deals with what a lapsed one left: not where it is for a session held elsewhere."""
        message = self._heard(entry)
        if not isinstance(message, Open | Draft | Decode | Cancel) or self.session_of(entry) is not None:
            return True
        place = _place(entry, message.session)
        return place is None or not await self._adoption.is_open(place)

    def _heard(self, entry: Entry) -> Message | None:
        """Return the message of an entry; None where it is none, or nobody's who may speak here."""
        with contextlib.suppress(WireError, SealError):
            examine(entry.fields, entry.tenant, self._keyring)
            return unpack(entry.payload)
        return None

    async def give_up(self, entry: Entry, reason: str, attempts: int) -> None:
        """Put an entry away for good and end its session, if it is of who may speak there."""
        with contextlib.suppress(WireError, SealError):
            seal = examine(entry.fields, entry.tenant, self._keyring)
            message = unpack(entry.payload)
            held = self._sessions.find(message.session, entry.tenant)
            if isinstance(message, Open):
                contract = unpack_contract(message.contract, with_unknown=True)
                check_speaker(seal, message.session, contract.producer)
                if held is None or held.place != place_of(contract):
                    await self._sessions.answer_with(message, contract, RefusedError(ErrorCode.INTERNAL, reason))
                else:  # it was the round that came with it
                    self._sessions.fail(held, ErrorCode.INTERNAL, reason)
            elif held is not None:
                check_speaker(seal, message.session, held.state.contract.producer)
                self._sessions.fail(held, ErrorCode.INTERNAL, reason)
        await self._inbox.bury(entry, Kind.FAILED, reason, attempts)

    async def _refuse(self, entry: Entry, error: WireError, seal: Seal | None) -> None:
        """Answer bytes that are no message when they name one of their tenant's sessions; else keep them for people."""
        log.warning("malformed", entry=entry.id, tenant=entry.tenant, reason=str(error))
        answer = answer_to(entry.payload, error)
        held = self._sessions.find(answer.session, entry.tenant) if answer else None
        if answer is None or held is None:
            self._inbox.condemn(entry, Kind.MALFORMED, f"malformed: {error}")
            return
        check_speaker(seal, answer.session, held.state.contract.producer)
        self._sessions.fail(held, answer.code, answer.message, [entry])

    async def _open(self, entry: Entry, message: Open, seal: Seal | None) -> None:
        # Terms that are not known here still say whose session it is: enough to refuse it where its device looks.
        contract = unpack_contract(message.contract, with_unknown=True)
        if contract.tenant != entry.tenant:
            reason = f"the contract names tenant {contract.tenant}, another than its inbox"
            self._inbox.condemn(entry, Kind.WRONG_TENANT, reason)
            return
        check_speaker(seal, message.session, contract.producer)
        try:
            self._tenancy.roster.check(contract.tenant)
        except RefusedError as refusal:
            await self._sessions.refuse(entry, message, contract, refusal)
            return
        await self._sessions.receive(entry, message, contract)

    async def _route(self, entry: Entry, message: Draft | Decode | Cancel, seal: Seal | None) -> None:
        session = message.session
        if isinstance(message, Cancel) and await self._forget(entry, message, seal):
            return
        held = self._sessions.find(session, entry.tenant) or await self._recalled(entry, message)
        if held is None:
            return
        check_speaker(seal, session, held.state.contract.producer)
        held.touched_s = monotonic()
        if isinstance(message, Cancel):
            self._sessions.cancel(held, entry)
            return
        self._sessions.let_wait(held, entry, message)

    async def _forget(self, entry: Entry, message: Cancel, seal: Seal | None) -> bool:
        """Drop an ``open`` that waits, as its own device asks; say whether there was one."""
        producer = None if seal is None else seal.producer
        if not await self._sessions.forget_waiting(message.session, entry.tenant, producer):
            return False
        await self._inbox.settle([entry])
        return True

    async def _recalled(self, entry: Entry, message: Draft | Decode | Cancel) -> Held | None:
        """Return the session of a message that is not held here, if it should be; else deal with the message.

        What was answered, or is another verifier's to answer, is settled: a device repeats what it has no answer to,
        to whoever owns the session then. A round that belongs to no session at all is kept for people; nobody has to
        look at a cancel that came too late.
        """
        session = message.session
        place = _place(entry, session)
        known = place is not None and await self._adoption.recall(place)
        held = self._sessions.find(session, entry.tenant)
        if held is None and known:
            await self._inbox.settle([entry])
        elif held is None and isinstance(message, Cancel):
            await self._inbox.dismiss(entry, Kind.LATE_CANCEL)
        elif held is None:
            self._inbox.condemn(entry, Kind.UNKNOWN_SESSION, f"unknown session {session}")
        return held


def _place(entry: Entry, session: str) -> Place | None:
    """Return where the session of a message is, if its producer has a name that could have one."""
    return Place(entry.producer, entry.tenant, session) if keys.NAME.fullmatch(entry.producer) else None
