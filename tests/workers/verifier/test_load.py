"""What a verifier learns of its steps, and how far it drafts and lets draft therefore."""

from __future__ import annotations

import pytest

from dsdq.accept import Acceptance
from dsdq.contract import MAX_WINDOW
from tests.workers.verifier.test_step import draft, grant_of, held, ready
from workers.engine.rounds import Drafting, Judgement
from workers.engine.rows import Row
from workers.verifier.held import Held
from workers.verifier.load import Load
from workers.verifier.step import Live, Timing, ready_rounds


def stepped(load: Load, positions: int, drafting_ms: float, took_ms: float) -> None:
    """Take in steps of one grant that was drafted for."""
    session = grant_of(held(), 9, 4)
    one = ready_rounds(session, Live(()), 100, 8)
    row = Row("acme/s1", 0, (0,) * (positions + 1), 5, (0,))  # one place too many was kept
    judgement = Judgement(Acceptance(2, (7, 8, 9)), drafted=3, drafting=Drafting(drafting_ms, 3))
    timing = Timing(0.0, (took_ms + drafting_ms) / 1000, 1)
    load.take_in([row], [one], [judgement], timing)


def test_drafts_that_cost_nearly_nothing_go_as_far_as_they_stand_and_expensive_ones_are_not_made() -> None:
    cheap, expensive = Load(512, brief=False), Load(512, brief=False)
    for _ in range(20):
        for positions in (4, 8):
            stepped(cheap, positions, 0.1, 8 + 0.05 * positions)
            stepped(expensive, positions, 40.0, 8 + 0.05 * positions)
    session = held()
    alone, crowded = cheap.own_window(session, 1), cheap.own_window(session, 50)
    assert alone > crowded > 0
    assert expensive.own_window(session, 1) == 0
    for _ in range(20):
        session.own_acceptance.add(drafted=4, accepted=0, committed=1)
    assert cheap.own_window(session, 1) <= 2


def test_what_drafting_took_is_not_taken_for_the_targets_step() -> None:
    drafting, alone = Load(512, brief=False), Load(512, brief=False)
    for _ in range(50):
        stepped(drafting, 4, 30.0, 10.0)
        stepped(alone, 4, 0.0, 10.0)
    assert [drafting.next_window(held(), rows, rows) for rows in (2, 40)] == [
        alone.next_window(held(), rows, rows) for rows in (2, 40)
    ]


def take_in(load: Load, positions: int, took_ms: float, idle_s: float = 1.0) -> None:
    """Take in a step of one device's draft."""
    rows = [Row("s", 0, (0,) * positions, 1, (0,))]
    timing = Timing(0.0, took_ms / 1000, 1)
    load.take_in(rows, [ready(held(draft(1, (), (1, 2))))], [Judgement(Acceptance(0, (1,)))], timing, idle_s)


def measured(position_ms: float, idle_s: float = 1.0) -> Load:
    """Return the load of a verifier whose steps take 8 ms and something for each position."""
    load = Load(512, brief=False)
    for positions in (2, 9) * 30:
        take_in(load, positions, 8 + position_ms * positions, idle_s)
    return load


def known(hits: int, misses: int) -> Held:
    """Return a session of which so many rounds of four tokens stood, or did not at all."""
    session = held()
    for _ in range(hits):
        session.acceptance.add(drafted=4, accepted=4, committed=5)
    for _ in range(misses):
        session.acceptance.add(drafted=4, accepted=0, committed=1)
    return session


def test_under_load_a_device_is_asked_for_what_pays_and_for_no_draft_where_nothing_does() -> None:
    session = known(hits=8, misses=24)
    load = measured(0.1)
    assert [load.next_window(session, waiting, waiting) for waiting in (1, 2, 40, 400)] == [4, 4, 3, 0]
    assert measured(5.0).next_window(session, 1, 1) == 4  # nobody is slowed
    assert measured(0.5).next_window(known(hits=0, misses=40), 2, 2) == 0


@pytest.mark.parametrize("idle_s", [0.0, 1.0])
def test_a_small_crowd_drafts_as_it_agreed_while_steps_are_slow_for_the_first_time_or_uneven(idle_s: float) -> None:
    # Steps of a verifier on two cores that devices share, as they were: positions, milliseconds.
    load = Load(512, brief=False)
    first = [(127, 453.5), (69, 215.2), (36, 117.1), (2, 72.3), (6, 136.6), (6, 134.6), (6, 101.6), (6, 100.0)]
    later = [(45, 33.4), (9, 34.1), (45, 63.4), (9, 59.6), (27, 17.3), (27, 11.7), (27, 29.0), (27, 13.9), (45, 25.1)]
    session = known(hits=8, misses=8)
    for positions, took_ms in first + later * 8:
        take_in(load, positions, took_ms, idle_s)
        assert [load.next_window(session, waiting, waiting) for waiting in (1, 2, 3, 6)] == [4, 4, 4, 4]


def test_a_verifier_without_time_to_spare_asks_for_what_commits_most() -> None:
    assert measured(0.1, idle_s=0.0).next_window(held(), 40, 40) < measured(0.1).next_window(held(), 40, 40)


def test_later_windows_of_a_session_wait_for_the_first_where_others_wait_too() -> None:
    load, session = measured(0.1), held()
    assert load.merged_window(session, 1) == MAX_WINDOW
    assert 1 <= load.merged_window(session, 20) < 4


def test_a_step_waits_for_rounds_that_are_nearly_here_if_all_rows_share_most_of_it() -> None:
    assert measured(0.01).linger_s([5, 5], [0.002, 0.5]) == 0.002
    assert measured(5.0).linger_s([5, 5], [0.007]) == 0
    assert Load(512, brief=True).linger_s([5, 5], [0.002]) == 0


def test_a_step_that_is_full_waits_for_nobody() -> None:
    assert measured(0.01).linger_s([256, 255], [0.002]) == 0.002
    assert measured(0.01).linger_s([256, 256], [0.002]) == 0


def test_an_engine_that_takes_next_to_nothing_is_not_measured() -> None:
    load = Load(512, brief=True)
    for _ in range(20):
        stepped(load, 4, 50.0, 1.0)
    assert load.own_window(held(), 30) == MAX_WINDOW


def test_in_a_crowd_nobody_is_drafted_for_much_further_than_the_others() -> None:
    load = Load(512, brief=False)
    for _ in range(20):
        for positions in (4, 8):
            stepped(load, positions, 3.0, 8 + 0.05 * positions)
    lucky = held()
    for _ in range(20):
        lucky.own_acceptance.add(drafted=8, accepted=8, committed=9)
    alone, crowded = load.own_window(lucky, 1), load.own_window(lucky, 20)
    assert alone > 2 * crowded
    assert crowded >= load.own_window(held(), 20) > 0


def test_a_step_is_charged_to_its_sessions_by_what_their_rows_take_and_drafts_to_whom_they_were_for() -> None:
    load = measured(0.5)  # 8 ms and 0.5 ms for each position
    rows = [Row("acme/s1", 0, (0,) * 5, 5, (0,)), Row("acme/s2", 0, (0,) * 10, 1, (0,))]
    timing = Timing(0.0, (8 + 0.5 * 15) / 1000, 2)
    parts = load.parts_ms(rows, [], [], timing)
    assert parts["acme/s1"] == pytest.approx(4 + 2.5, rel=0.1)
    assert parts["acme/s2"] == pytest.approx(4 + 5.0, rel=0.1)
    one = ready_rounds(grant_of(held(), 9, 4), Live(()), 100, 4)
    drafting = Judgement(Acceptance(2, (7, 8, 9)), drafted=4, drafting=Drafting(3.0, 4))
    timing = Timing(0.0, (8 + 0.5 * 15 + 3) / 1000, 1)
    with_drafts = load.parts_ms([Row(one.held.key, 0, (0,) * 5, 5, (0,)), rows[1]], [one], [drafting], timing)
    assert with_drafts[one.held.key] == pytest.approx(4 + 2.5 + 3.0, rel=0.1)
    assert sum(with_drafts.values()) == pytest.approx(1000 * timing.took_s)


def test_while_nothing_is_known_of_steps_positions_alone_count() -> None:
    rows = [Row("acme/s1", 0, (0,) * 1, 1, (0,)), Row("acme/s2", 0, (0,) * 3, 3, (0,))]
    parts = Load(512, brief=False).parts_ms(rows, [], [], Timing(0.0, 0.008, 0))
    assert parts == {"acme/s1": pytest.approx(2), "acme/s2": pytest.approx(6)}
