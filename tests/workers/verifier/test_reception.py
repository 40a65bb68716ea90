"""Reception: whatever comes in, nothing is done to a session but what its own device asks for."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock, create_autospec

import pytest

from dsdq.bus.dead import Kind
from dsdq.bus.inbox import Entry, Inbox
from dsdq.contract import Contract
from dsdq.sealing import Keyring, producer_key, sealed
from dsdq.wire import Cancel, Open, pack, pack_contract
from workers.verifier.adoption import Adoption
from workers.verifier.reception import Reception
from workers.verifier.sessions import Sessions
from workers.verifier.tenancy import Roster, Tenancy

SECRET = bytes(range(32))
CONTRACT = Contract("acme", "phone-7", "s1", "builtin/target", "f")
OPEN = pack(Open("s1", pack_contract(CONTRACT), (1, 2, 3)))
CANCEL = pack(Cancel("s1"))
NO_MESSAGE = b"\x83\x00\x01\x01\x63\x02\xa2s1"  # a type that nobody knows, for session s1


@pytest.fixture
def inbox() -> Mock:
    return create_autospec(Inbox, instance=True)


@pytest.fixture
def sessions() -> Mock:
    """Give sessions among which phone-7's s1 is open."""
    made = create_autospec(Sessions, instance=True)
    made.find.return_value = Mock(session="s1", state=SimpleNamespace(contract=CONTRACT))
    made.forget_waiting.return_value = False
    return made


@pytest.fixture
def reception(inbox: Mock, sessions: Mock) -> Reception:
    adoption = create_autospec(Adoption, instance=True)
    tenancy = create_autospec(Tenancy, instance=True)
    tenancy.roster = Roster(("acme",))
    return Reception(inbox, sessions, adoption, Keyring({"acme": [SECRET]}), tenancy)


def entry(payload: bytes, producer: str) -> Entry:
    seal = sealed(producer_key(SECRET, producer), producer, "s1", payload)
    fields = {b"m": payload, b"p": producer.encode(), b"s": b"s1", b"a": seal.mac}
    return Entry("w1", "acme", "1-0", fields)


def untouched(sessions: Mock) -> bool:
    answered = sessions.refuse.called or sessions.answer_with.called
    return not (answered or sessions.fail.called or sessions.cancel.called or sessions.receive.called)


@pytest.mark.parametrize("payload", [OPEN, CANCEL, NO_MESSAGE], ids=["open", "cancel", "no message"])
async def test_what_a_sibling_says_in_a_session_is_kept_for_people(
    reception: Reception, inbox: Mock, sessions: Mock, payload: bytes
) -> None:
    await reception.take(entry(payload, "phone-8"))
    assert untouched(sessions)
    assert inbox.condemn.call_args.args[1] is Kind.FORGED


@pytest.mark.parametrize("payload", [OPEN, CANCEL, NO_MESSAGE], ids=["open", "cancel", "no message"])
async def test_what_its_own_device_says_is_taken(
    reception: Reception, inbox: Mock, sessions: Mock, payload: bytes
) -> None:
    await reception.take(entry(payload, "phone-7"))
    assert not untouched(sessions)
    assert not inbox.condemn.called


@pytest.mark.parametrize("payload", [OPEN, CANCEL], ids=["open", "cancel"])
async def test_giving_a_message_up_ends_the_session_of_its_own_device_only(
    reception: Reception, inbox: Mock, sessions: Mock, payload: bytes
) -> None:
    await reception.give_up(entry(payload, "phone-8"), "it failed", 4)
    assert untouched(sessions)
    await reception.give_up(entry(payload, "phone-7"), "it failed", 4)
    assert not untouched(sessions)
    assert [call.args[1] for call in inbox.bury.await_args_list] == [Kind.FAILED, Kind.FAILED]


async def test_nothing_is_read_of_what_is_not_sealed(reception: Reception) -> None:
    unsealed = Entry("w1", "acme", "1-0", {b"m": CANCEL, b"p": b"phone-7"})
    assert reception.session_of(unsealed) is None
    assert reception.session_of(entry(CANCEL, "phone-7")) == "s1"
    assert await reception.takes(unsealed)  # to put it away
