"""What a verifier learns of its steps, and how far it drafts and lets draft therefore."""

from __future__ import annotations

import pytest

from dsdq.contract import MAX_WINDOW
from dsdq.policies.steering import OwnDraft, OwnDrafts, Steering, Turnaround
from dsdq.policies.window import Acceptance, best_window

AGREED = 4


def stepped(steering: Steering, positions: int, drafting_ms: float, took_ms: float) -> None:
    """Take in a step of one grant that was drafted for."""
    own = OwnDrafts(drafting_ms, 3, {"s": OwnDraft("t", wanted=3, drafted=3, accepted=2, committed=3)})
    steering.take_in(1, positions, took_ms + drafting_ms, own=own)


def measured(position_ms: float, idle_ms: float = 1000.0) -> Steering:
    """Return what a verifier knows whose steps take 8 ms and something for each position."""
    steering = Steering(512, brief=False)
    for positions in (2, 9) * 30:
        steering.take_in(1, positions, 8 + position_ms * positions, idle_ms)
    return steering


def own_window(steering: Steering, acceptance: Acceptance, waiting: int) -> int:
    """Return how far a verifier drafts for a session, one of so many that wait, all of one tenant."""
    return steering.own_window(acceptance, waiting, steering.own_windows({"t": waiting})["t"])


def known(hits: int, misses: int, window: int = 4) -> Acceptance:
    """Return the acceptance where so many rounds of ``window`` tokens stood, or did not at all."""
    acceptance = Acceptance()
    for _ in range(hits):
        acceptance.add(drafted=window, accepted=window, committed=window + 1)
    for _ in range(misses):
        acceptance.add(drafted=window, accepted=0, committed=1)
    return acceptance


def next_windows(steering: Steering, acceptance: Acceptance, *waiting: int) -> list[int]:
    """Return how far a device may draft where so many sessions wait, all of one tenant."""
    return [steering.next_window(acceptance, AGREED, count, count) for count in waiting]


def test_drafts_that_cost_nearly_nothing_go_as_far_as_they_stand_and_expensive_ones_are_not_made() -> None:
    cheap, expensive = Steering(512, brief=False), Steering(512, brief=False)
    for _ in range(20):
        for positions in (4, 8):
            stepped(cheap, positions, 0.1, 8 + 0.05 * positions)
            stepped(expensive, positions, 40.0, 8 + 0.05 * positions)
    alone, crowded = own_window(cheap, Acceptance(), 1), own_window(cheap, Acceptance(), 50)
    assert alone > crowded > 0
    assert own_window(expensive, Acceptance(), 1) == 0
    assert own_window(cheap, known(hits=0, misses=20), 1) <= 2


def test_what_drafting_took_is_not_taken_for_the_targets_step() -> None:
    drafting, alone = Steering(512, brief=False), Steering(512, brief=False)
    for _ in range(50):
        stepped(drafting, 4, 30.0, 10.0)
        stepped(alone, 4, 0.0, 10.0)
    assert next_windows(drafting, Acceptance(), 2, 40) == next_windows(alone, Acceptance(), 2, 40)


def test_the_verifier_drafts_no_further_than_lets_all_who_wait_into_one_step() -> None:
    steering = Steering(64, brief=True)
    assert [own_window(steering, Acceptance(), waiting) for waiting in (1, 4, 32)] == [63, 15, 1]


def test_a_session_for_which_no_draft_could_be_made_says_nothing_of_how_drafts_stand() -> None:
    lucky = OwnDrafts(0.1, 8, {"s": OwnDraft("t", wanted=8, drafted=8, accepted=8, committed=9)})
    nothing = OwnDrafts(0.1, 0, {"s": OwnDraft("t", wanted=8, drafted=0, accepted=0, committed=1)})
    steering = Steering(512, brief=False)
    for positions in (2, 9) * 30:
        steering.take_in(1, positions, 8.1 + 0.05 * positions, own=lucky)
    before = own_window(steering, known(20, 0), 20)
    for positions in (2, 9) * 200:
        steering.take_in(1, positions, 8.1 + 0.05 * positions, own=nothing)
    assert own_window(steering, known(20, 0), 20) == before > own_window(steering, Acceptance(), 20)


def drafted(rows: int, **stood: int) -> OwnDrafts:
    """Return what was drafted for a crowd of so many of each tenant, one token each, of which so many of ten stood."""
    of = {
        f"{tenant}/{one}": OwnDraft(tenant, 1, 1, int(7 * one % 10 < tenths), 1)
        for tenant, tenths in stood.items()
        for one in range(rows)
    }
    return OwnDrafts(3.0, len(of), of)


def test_a_crowd_whose_drafts_did_not_stand_is_drafted_for_again_in_time() -> None:
    steering = Steering(512, brief=False)
    for rows in (15, 30) * 50:
        steering.take_in(rows, 2 * rows, 48 + 0.23 * 2 * rows + 3.0, own=drafted(rows, t=0))
    assert own_window(steering, Acceptance(), 30) == 0
    unpaid = OwnDrafts(of={str(one): OwnDraft("t", 0, 0, 0, 1) for one in range(30)})
    for rows in (15, 30) * 50:
        steering.take_in(rows, rows, 48 + 0.23 * rows, own=unpaid)
    assert own_window(steering, Acceptance(), 30) > 0


def test_a_tenant_whose_texts_the_drafter_does_not_know_narrows_nobody_elses_windows() -> None:
    steering = Steering(512, brief=False)
    for rows in (8, 15) * 100:
        steering.take_in(2 * rows, 4 * rows, 48 + 0.23 * 4 * rows + 3.0, own=drafted(rows, good=8, bad=0))
    alone = steering.own_windows({"good": 15})["good"]
    together = steering.own_windows({"good": 15, "bad": 15})
    assert together["bad"] == 0
    assert 3 <= alone <= together["good"] + 1
    assert steering.own_windows({"good": 2, "bad": 28})["good"] <= 1  # passes for two of thirty keep all waiting


def test_under_load_a_device_is_asked_for_what_pays_and_for_no_draft_where_nothing_does() -> None:
    assert next_windows(measured(0.1), known(hits=8, misses=24), 1, 2, 40, 400) == [4, 4, 3, 0]
    assert next_windows(measured(5.0), known(hits=8, misses=24), 1) == [4]  # nobody is slowed
    assert next_windows(measured(0.5), known(hits=0, misses=40), 2) == [0]


@pytest.mark.parametrize("idle_ms", [0.0, 1000.0])
def test_a_small_crowd_drafts_as_it_agreed_while_steps_are_slow_for_the_first_time_or_uneven(idle_ms: float) -> None:
    # Steps of a verifier on two cores that devices share, as they were: positions, milliseconds.
    steering = Steering(512, brief=False)
    first = [(127, 453.5), (69, 215.2), (36, 117.1), (2, 72.3), (6, 136.6), (6, 134.6), (6, 101.6), (6, 100.0)]
    later = [(45, 33.4), (9, 34.1), (45, 63.4), (9, 59.6), (27, 17.3), (27, 11.7), (27, 29.0), (27, 13.9), (45, 25.1)]
    acceptance = known(hits=8, misses=8)
    for positions, took_ms in first + later * 8:
        steering.take_in(1, positions, took_ms, idle_ms)
        assert next_windows(steering, acceptance, 1, 2, 3, 6) == [4, 4, 4, 4]


def test_a_verifier_without_time_to_spare_asks_for_what_commits_most() -> None:
    assert next_windows(measured(0.1, idle_ms=0.0), Acceptance(), 40) < next_windows(measured(0.1), Acceptance(), 40)


def test_whose_tenant_makes_a_crowd_drafts_no_further_than_fits_its_share_of_a_step() -> None:
    assert measured(0.01).next_window(known(20, 0), 64, 2, 32.0) == 512 // 32 - 1


def test_later_windows_of_a_session_wait_for_the_first_where_others_wait_too() -> None:
    steering = measured(0.1)
    assert steering.merged_window(Acceptance(), 1) == MAX_WINDOW
    assert 1 <= steering.merged_window(Acceptance(), 20) < 4


def test_a_step_waits_for_rounds_that_are_nearly_here_if_all_rows_share_most_of_it() -> None:
    assert measured(0.01).linger_s([5, 5], [0.002, 0.5]) == 0.002
    assert measured(5.0).linger_s([5, 5], [0.007]) == 0
    assert Steering(512, brief=True).linger_s([5, 5], [0.002]) == 0


def test_a_step_that_is_full_waits_for_nobody() -> None:
    assert measured(0.01).linger_s([256, 255], [0.002]) == 0.002
    assert measured(0.01).linger_s([256, 256], [0.002]) == 0


def test_an_engine_that_takes_next_to_nothing_is_not_measured() -> None:
    steering = Steering(512, brief=True)
    for _ in range(20):
        stepped(steering, 4, 50.0, 1.0)
    assert own_window(steering, Acceptance(), 2) == MAX_WINDOW


def test_in_a_crowd_nobody_is_drafted_for_much_further_than_the_others() -> None:
    steering = Steering(512, brief=False)
    for _ in range(20):
        for positions in (4, 8):
            stepped(steering, positions, 3.0, 8 + 0.05 * positions)
    lucky = known(hits=20, misses=0, window=8)
    alone, crowded = own_window(steering, lucky, 1), own_window(steering, lucky, 20)
    assert alone > 2 * crowded
    assert crowded >= own_window(steering, Acceptance(), 20) > 0


def test_in_a_crowd_a_draft_stops_where_it_pays_by_what_all_have_shown_without_hope() -> None:
    """Of thirty guesses 22 stand: then three tokens commit most in a time, and four if one standard error more did."""
    steering = Steering(512, brief=False)
    of = {str(one): OwnDraft("t", 1, 1, int(7 * one % 30 < 22), 1) for one in range(30)}
    for rows in (15, 30) * 100:
        steering.take_in(rows, 2 * rows, 48 + 0.23 * 2 * rows + 3.0, own=OwnDrafts(3.0, rows, of))
    expected = [best_window(48 / 30, 0.23, 3 / 30, acceptance, MAX_WINDOW) for acceptance in (22 / 30, 0.79)]
    assert expected == [3, 4]
    assert own_window(steering, known(20, 0), 30) == 3


def test_a_step_is_charged_to_its_sessions_by_what_their_rows_take_and_drafts_to_whom_they_were_for() -> None:
    steering, positions = measured(0.5), {"one": 5, "two": 10}  # 8 ms and 0.5 ms for each position
    parts = steering.parts_ms(positions, 8 + 0.5 * 15)
    assert parts == {"one": pytest.approx(4 + 2.5, rel=0.1), "two": pytest.approx(4 + 5.0, rel=0.1)}
    own = OwnDrafts(3.0, 4, {"one": OwnDraft("one", wanted=4, drafted=4, accepted=2, committed=3)})
    with_drafts = steering.parts_ms(positions, 8 + 0.5 * 15 + 3, own)
    assert with_drafts["one"] == pytest.approx(4 + 2.5 + 3.0, rel=0.1)
    assert sum(with_drafts.values()) == pytest.approx(8 + 0.5 * 15 + 3)


def test_time_that_went_into_drafts_of_which_none_was_made_is_charged_like_the_rest() -> None:
    own = OwnDrafts(3.0, 0, {"one": OwnDraft("one", wanted=4, drafted=0, accepted=0, committed=1)})
    steering = measured(0.5)
    assert steering.parts_ms({"one": 1, "two": 1}, 12.0, own) == {"one": pytest.approx(6), "two": pytest.approx(6)}


def test_while_nothing_is_known_of_steps_positions_alone_count() -> None:
    parts = Steering(512, brief=False).parts_ms({"one": 1, "two": 3}, 8.0)
    assert parts == {"one": pytest.approx(2), "two": pytest.approx(6)}


def answered(turnaround: Turnaround, took_s: float, now_s: float) -> float:
    """Let a device be answered, and ask again after a while; return when that is."""
    turnaround.answered_s = now_s
    turnaround.asked(now_s + took_s)
    return now_s + took_s


def test_a_round_is_due_when_it_usually_comes_once_three_have_told_that() -> None:
    turnaround, now_s = Turnaround(), 100.0
    for rounds in range(3):
        turnaround.answered_s = now_s
        assert turnaround.due_s(now_s) is None, rounds
        now_s = answered(turnaround, 0.02, now_s)
    assert turnaround.due_s(now_s) is None  # it waits already
    turnaround.answered_s = now_s
    due_s = turnaround.due_s(now_s)
    assert due_s is not None
    assert 0.02 <= due_s < 0.04
    assert turnaround.due_s(now_s + 0.005) == pytest.approx(due_s - 0.005)
    assert turnaround.due_s(now_s + 0.05) is None  # late


def test_a_device_that_comes_unevenly_is_awaited_for_longer() -> None:
    even, uneven, now_s = Turnaround(), Turnaround(), 1.0
    for took_s in (0.01, 0.03) * 20:
        answered(even, 0.02, now_s)
        now_s = answered(uneven, took_s, now_s)
    even.answered_s = uneven.answered_s = now_s
    steady_s, scattered_s = even.due_s(now_s), uneven.due_s(now_s)
    assert steady_s == pytest.approx(0.02, rel=0.01)
    assert scattered_s is not None
    assert scattered_s > 0.025


def test_a_round_that_comes_while_others_wait_tells_nothing() -> None:
    turnaround = Turnaround()
    turnaround.asked(5.0)
    assert turnaround == Turnaround()
