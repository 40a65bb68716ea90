"""Where sessions go: by figures as old as a heartbeat; and from dead verifiers to those that live."""

from __future__ import annotations

from typing import Any

import pytest

from dsdq.sim.cloud import Cloud, Entry
from dsdq.sim.guesses import Fixed
from dsdq.sim.held import Held
from dsdq.sim.kernel import Kernel
from dsdq.sim.messages import Answer
from dsdq.sim.places import WaitingRoom
from dsdq.sim.record import Record
from dsdq.sim.streams import Streams
from dsdq.sim.verifier import Verifier
from tests.dsdq.sim.worlds import record_of, scenario_of


def unheard(_: Answer) -> None:
    """Nobody reads."""


def held_of(key: str) -> Held:
    guesses = Fixed([], 100)
    return Held(key, "default", 10, 50, (guesses, guesses), unheard, known_length=True)


def cloud_of(count: int, **verifiers: Any) -> tuple[Kernel, Cloud, list[Verifier]]:
    scenario = scenario_of(verifiers={"count": count, **verifiers}, routing={"policy": "jsq"})
    kernel = Kernel()
    cloud = Cloud(kernel, scenario, Streams(1), Record(0.0, 1000.0))
    return kernel, cloud, [entry.verifier for entry in cloud._registry]


def test_routing_sees_what_the_last_heartbeat_wrote() -> None:
    _, cloud, (verifier, _) = cloud_of(2)
    entry = Entry(verifier, phase=0.0)
    entry.look(0.0, 1000.0)
    for number in range(3):
        assert cloud.open(held_of(str(number)), verifier) == 0.0
    entry.look(999.0, 1000.0)
    assert entry.sessions == 0
    entry.look(1000.0, 1000.0)
    assert entry.sessions == 3


def test_the_dead_write_no_heartbeats() -> None:
    _, cloud, (verifier, _) = cloud_of(2)
    entry = Entry(verifier, phase=0.0)
    cloud.open(held_of("a"), verifier)
    entry.look(0.0, 1000.0)
    verifier.fail()
    entry.look(5000.0, 1000.0)
    assert entry.sessions == 1


def test_a_dead_verifiers_sessions_go_to_one_that_lives_when_its_lease_lapses() -> None:
    kernel, cloud, verifiers = cloud_of(3, lease_ms=3000.0, return_s=100.0)
    session = held_of("a")
    cloud.open(session, verifiers[0])
    cloud._fail(verifiers[0])
    assert session.verifier is None
    assert cloud.open(held_of("b"), verifiers[0]) is None
    verifiers[1].fail()  # its lease holds still: nobody knows
    while session.verifier is None:
        assert kernel.advance()
    assert (kernel.now_ms, session.verifier) == (3000.0, verifiers[2])


def test_where_nobody_lives_sessions_wait_for_one_that_comes_back() -> None:
    kernel, cloud, (verifier,) = cloud_of(1, lease_ms=1000.0, return_s=5.0)
    session = held_of("a")
    cloud.open(session, verifier)
    cloud._fail(verifier)
    while session.verifier is None:
        assert kernel.advance()
    assert kernel.now_ms == 5000.0
    assert session.verifier is not verifier


def test_a_place_goes_to_who_waits_when_it_is_left() -> None:
    _, cloud, (verifier,) = cloud_of(1, slots=2)
    sessions = [held_of(str(number)) for number in range(3)]
    assert [cloud.open(one, verifier) for one in sessions] == [0.0, 0.0, 0.0]
    assert (verifier.sessions, len(verifier.waiting)) == (2, 1)
    verifier.release(sessions[0])
    assert sessions[2].verifier is verifier
    assert verifier.sessions == 2


def test_sessions_taken_over_above_its_places_leave_none_to_who_waits_until_they_are_fewer() -> None:
    _, cloud, (verifier,) = cloud_of(1, slots=1)
    sessions = [held_of(str(number)) for number in range(3)]
    cloud.open(sessions[0], verifier)
    verifier.admit(sessions[1])
    cloud.open(sessions[2], verifier)
    verifier.release(sessions[0])
    assert sessions[2].verifier is None
    verifier.release(sessions[1])
    assert sessions[2].verifier is verifier


def test_a_session_expires_whose_device_has_gone() -> None:
    kernel, cloud, (verifier,) = cloud_of(1)
    session = held_of("a")
    cloud.open(session, verifier)
    cloud.abandon(session)
    kernel.run()
    assert (session.ended, verifier.sessions) == (True, 0)


def test_a_round_that_is_lost_is_repeated_once_it_is_overdue() -> None:
    record = record_of(duration_s=20.0, broker={"loss": 0.2}, phone={"link": {"rtt_ms": 20.0}})
    lost = sum(one.repeats for one in record.requests)
    rounds = sum(one.rounds for one in record.requests)
    # each of a round's messages is lost with p: p/(1-p) repeats of it
    assert 0.15 < lost / rounds < 0.35
    assert all(one.committed == one.output for one in record.requests)


def test_nothing_is_repeated_that_is_not_lost() -> None:
    quiet = record_of(duration_s=20.0, broker={"loss": 0.0}, phone={"link": {"rtt_ms": 20.0}})
    watched = record_of(duration_s=20.0, broker={"loss": 1e-12}, phone={"link": {"rtt_ms": 20.0}})
    assert sum(one.repeats for one in watched.requests) == 0
    # one look for a timeout, not one for each round
    assert watched.events < 1.2 * quiet.events


def test_what_was_refused_before_it_was_taken_in_is_no_queueing(monkeypatch: pytest.MonkeyPatch) -> None:
    refused, take_in = 0, Cloud.open

    def _open(cloud: Cloud, held: Held, verifier: Verifier) -> float | None:
        nonlocal refused
        refused += refused < 5
        return take_in(cloud, held, verifier) if refused == 5 else 30.0

    monkeypatch.setattr(Cloud, "open", _open)
    first = record_of(duration_s=0.001, phone={"link": {"rtt_ms": 20.0}}).requests[0]
    assert (first.retries, first.queue_ms, first.outcome) == (4, 0.0, "finished")
    # Pauses of 15 to 45 ms times 1, 2, 3 and 4, the way back and there for each: nothing of that slows the link.
    assert 4 * 20 + 10 * 15 <= first.place_ms <= 4 * 20 + 10 * 45
    assert first.network_ms == pytest.approx(first.rounds * 20.0)


def test_who_would_wait_too_long_for_a_place_is_told_when_to_come_back() -> None:
    kernel, cloud, (verifier,) = cloud_of(1, slots=1, place_wait_ms=1500.0)
    sessions = [held_of(str(number)) for number in range(4)]
    cloud.open(sessions[0], verifier)
    kernel.at(1000.0, lambda _: verifier.release(sessions[0]))
    kernel.run()  # sessions last a second
    assert [cloud.open(one, verifier) for one in sessions[1:3]] == [0.0, 0.0]
    # One place in a second: the next one is waited for, that behind it is too far.
    assert cloud.open(sessions[3], verifier) == 1000.0
    assert len(verifier.waiting) == 1


def test_a_device_gives_up_when_no_place_has_become_free_for_too_long() -> None:
    record = record_of(
        duration_s=3.0,
        phone={"count": 8, "open_timeout_ms": 2000.0, "arrivals": {"think_s": 0.0}},
        verifiers={"slots": 1, "place_wait_ms": 100.0},
    )
    refused = [one for one in record.requests if one.outcome == "refused"]
    assert refused
    assert all(one.retries and one.ended_ms - one.began_ms < 2000.0 for one in refused)
    patient = record_of(
        duration_s=3.0,
        phone={"count": 8, "open_timeout_ms": 1e9, "arrivals": {"think_s": 0.0}},
        verifiers={"slots": 1, "place_wait_ms": 100.0},
    )
    assert {one.outcome for one in patient.requests} == {"finished"}


def test_a_session_that_waits_for_its_place_is_not_taken_for_one_of_a_slow_verifier() -> None:
    record = record_of(duration_s=0.001, phone={"count": 3, "link": {"rtt_ms": 20.0}}, verifiers={"slots": 1})
    first, second, third = record.requests
    assert (first.place_ms, first.queue_ms) == (0.0, 0.0)
    # The verifier knows of an end when it says it.
    assert second.place_ms == pytest.approx(first.ended_ms - 10 - 12 - 10)
    assert third.place_ms == pytest.approx(second.ended_ms - 10 - 12 - 10)
    for one in record.requests:
        assert one.queue_ms == 0.0
        assert one.network_ms == pytest.approx(one.rounds * 20.0)


def test_who_is_not_there_is_asked_for_longer_than_who_is_full() -> None:
    nobody = {"failures_per_hour": 1e6, "return_s": 40.0}
    waits = record_of(duration_s=1.0, phone={"open_timeout_ms": 10.0}, verifiers=nobody)
    assert waits.failures
    assert {one.outcome for one in waits.requests} == {"finished"}
    ends = record_of(duration_s=1.0, verifiers=nobody | {"return_s": 400.0})
    late = [one for one in ends.requests if one.outcome == "refused"]
    assert all(one.ended_ms - one.began_ms < 60_000 for one in late)


def test_an_inbox_that_is_full_says_when_a_sixteenth_of_it_is_drained() -> None:
    _, cloud, (verifier,) = cloud_of(1, slots=1)
    verifier.waiting = WaitingRoom(2)
    sessions = [held_of(str(number)) for number in range(4)]
    assert [cloud.open(one, verifier) for one in sessions[:3]] == [0.0, 0.0, 0.0]
    assert cloud.open(sessions[3], verifier) == 5000.0  # of 1024 entries, of which none was settled yet
