from __future__ import annotations

from dsdq.sim.guesses import Fixed
from dsdq.sim.held import Held
from dsdq.sim.messages import Answer
from dsdq.sim.places import WaitingRoom


def unheard(_: Answer) -> None:
    """Nobody reads."""


def held_of(key: str) -> Held:
    guesses = Fixed([], 10)
    return Held(key, key[0], 10, 10, (guesses, guesses), unheard, known_length=True)


def room_of(*keys: str, bound: int = 8) -> tuple[WaitingRoom, dict[str, Held]]:
    room, sessions = WaitingRoom(bound), {key: held_of(key) for key in keys}
    assert all(room.add(held) for held in sessions.values())
    return room, sessions


def left(room: WaitingRoom) -> list[str]:
    taken = []
    while (held := room.next(lambda _: True)) is not None:
        taken.append(held.key)
    return taken


def test_tenants_take_turns_and_each_ones_sessions_come_in_order() -> None:
    room, _ = room_of("a1", "a2", "a3", "b1", "c1", "c2")
    assert left(room) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert len(room) == 0


def test_a_full_inbox_takes_no_more_of_that_tenant() -> None:
    room, _ = room_of("a1", "a2", bound=2)
    assert not room.add(held_of("a3"))
    assert room.add(held_of("b1"))


def test_who_has_no_place_is_passed_over_and_keeps_its_turn() -> None:
    room, sessions = room_of("a1", "b1", "b2")
    assert room.next(lambda tenant: tenant == "b") is sessions["b1"]
    assert list(room.tenants) == ["a", "b"]
    assert left(room) == ["a1", "b2"]


def test_who_has_ended_has_no_turn() -> None:
    room, sessions = room_of("a1", "a2", "b1")
    sessions["a1"].ended = sessions["b1"].ended = True
    assert left(room) == ["a2"]


def test_everybody_leaves_a_verifier_that_dies() -> None:
    room, sessions = room_of("a1", "b1", "b2")
    sessions["b1"].ended = True
    assert [held.key for held in room.clear()] == ["a1", "b2"]
    assert left(room) == []
