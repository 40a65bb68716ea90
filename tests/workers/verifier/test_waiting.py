"""The waiting room: in order within a tenant, in turns between tenants."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dsdq.bus.inbox import Entry
from dsdq.contract import Contract
from dsdq.wire import Open
from workers.verifier.waiting import Waiting, WaitingRoom

ARRIVALS = st.lists(st.sampled_from(["acme", "globex", "initech"]), max_size=30)


def waiting(tenant: str, session: str) -> Waiting:
    contract = Contract(tenant, "phone", session, "m", "f")
    return Waiting(Entry("w1", tenant, session, b""), Open(session, b"", (1,)), contract)


def filled(tenants: list[str]) -> WaitingRoom:
    room = WaitingRoom()
    for number, tenant in enumerate(tenants):
        assert room.add(waiting(tenant, f"s{number}"))
    return room


def emptied(room: WaitingRoom) -> list[Waiting]:
    let_in = []
    while (one := room.first(lambda _: True)) is not None:
        room.remove(one)
        let_in.append(one)
    return let_in


def test_one_tenants_crowd_does_not_delay_another() -> None:
    room = filled(["acme"] * 100 + ["globex"])
    assert [one.contract.tenant for one in emptied(room)[:3]] == ["acme", "globex", "acme"]


def test_who_has_a_place_goes_before_those_who_have_none() -> None:
    room = filled(["acme", "globex", "globex"])
    first = room.first(lambda tenant: tenant == "globex")
    assert first is not None
    assert first.contract.session == "s1"
    assert room.first(lambda _: False) is None


@given(ARRIVALS)
def test_everybody_is_let_in_once_in_order_within_a_tenant(tenants: list[str]) -> None:
    let_in = emptied(filled(tenants))
    assert len(let_in) == len(tenants)
    for tenant in set(tenants):
        sessions = [one.contract.session for one in let_in if one.contract.tenant == tenant]
        assert sessions == [f"s{number}" for number, whose in enumerate(tenants) if whose == tenant]


@given(ARRIVALS)
def test_no_tenant_gets_two_places_while_another_waits_for_one(tenants: list[str]) -> None:
    turns = [one.contract.tenant for one in emptied(filled(tenants))]
    for place, (one, following) in enumerate(pairwise(turns)):
        assert one != following or set(turns[place:]) == {one}


def test_a_session_waits_once_and_only_its_own_tenant_finds_it() -> None:
    room = filled(["acme"])
    assert not room.add(waiting("acme", "s0"))
    assert room.add(waiting("globex", "s0"))
    found = room.find("s0", "globex")
    assert found is not None
    assert found.contract.tenant == "globex"
    assert room.find("s1", "acme") is None
    assert len(list(room)) == 2


def test_whoever_leaves_from_the_middle_is_not_let_in() -> None:
    room = filled(["acme"] * 3)
    leaving = room.find("s1", "acme")
    assert leaving is not None
    room.remove(leaving)
    assert [one.contract.session for one in emptied(room)] == ["s0", "s2"]
    assert room.first(lambda _: True) is None


# How long


@given(ARRIVALS, st.sampled_from(["acme", "globex", "initech"]))
def test_the_turns_of_an_open_are_the_places_that_are_given_until_it_has_one(tenants: list[str], tenant: str) -> None:
    room = filled(tenants)
    turns = room.turns(tenant)
    room.add(waiting(tenant, "last"))
    place = [one.contract.session for one in emptied(room)].index("last") + 1
    # Others that came while it waited may have their turn before it or after it, by who had the last one.
    assert abs(place - turns) < len({*tenants, tenant})
