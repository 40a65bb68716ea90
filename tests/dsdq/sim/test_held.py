"""Which of a session's windows are judged, in which order, when messages overtake each other and come twice."""

from __future__ import annotations

import pytest

from dsdq.policies.window import Choice, Mode
from dsdq.sim.guesses import Fixed
from dsdq.sim.held import Held, Round
from dsdq.sim.messages import Answer, Grant, Window
from dsdq.sim.step import Step, judge

CHOICE = Choice(4)
GRANT = Choice(0, 1, Mode.TARGET_ONLY, 8)


def unheard(_: Answer) -> None:
    """Nobody reads."""


def held_of(wrong: tuple[int, ...] = (), output: int = 100, length: int = 0) -> Held:
    guesses = Fixed(list(wrong), 200)
    held = Held("a/1", "a", 10, output, (guesses, guesses), unheard, known_length=False)
    held.length = length
    return held


def window(number: int, base: int, size: int = 4, branch: int = 0) -> Window:
    return Window(number, branch, base, size, CHOICE)


def numbers(held: Held) -> list[int]:
    return [one.number for one in held.pending]


def commit(held: Held, merged: int = 64) -> tuple[int, int, bool]:
    """Judge what waits as a verifier does; return what was accepted and committed, and whether the rest stands."""
    windows = held.next_windows(merged)
    verified = Round(windows, windows[-1].end - held.length)
    verdict = judge(held, verified, Step(0.0, []), 10.0)
    held.length = verdict.length
    held.branch += not verdict.keeps
    held.answered(windows, 10.0)
    return verdict.accepted, verdict.committed, verdict.keeps


def test_a_window_waits_for_those_before_it() -> None:
    held = held_of()
    held.receive(window(2, 4), 1.0)
    assert (numbers(held), held.asks) == ([], False)
    held.receive(window(1, 0), 2.0)
    assert numbers(held) == [1, 2]


def test_windows_that_were_overtaken_within_what_is_certain_are_judged_in_their_order() -> None:
    held = held_of(length=1)
    held.receive(window(3, 1, 1), 1.0)
    held.receive(window(2, 0, 1), 2.0)
    assert numbers(held) == [2, 3]
    assert commit(held) == (1, 2, True)


def test_a_window_that_comes_twice_is_judged_once() -> None:
    held = held_of()
    for _ in range(2):
        held.receive(window(1, 0), 1.0)
    assert numbers(held) == [1]
    commit(held)
    held.receive(window(1, 0), 3.0)
    assert not held.asks


def test_windows_that_follow_each_other_are_judged_together_within_a_bound() -> None:
    held = held_of()
    for number in range(1, 4):
        held.receive(window(number, 4 * number - 4), 1.0)
    assert [one.number for one in held.next_windows(8)] == [1, 2]
    assert [one.number for one in held.next_windows(2)] == [1]
    assert commit(held, 8) == (8, 9, True)
    assert numbers(held) == [3]
    assert commit(held) == (3, 4, True)  # its first token was certain already


def test_what_was_drafted_behind_a_wrong_guess_is_dropped_and_so_is_what_comes_of_it_later() -> None:
    held = held_of(wrong=(2,))
    held.receive(window(1, 0), 1.0)
    held.receive(window(2, 4), 1.0)
    held.receive(window(4, 12), 1.0)
    assert commit(held, 4) == (2, 3, False)
    assert (numbers(held), held.ahead, held.branch) == ([], [], 1)
    held.receive(window(3, 8), 2.0)
    assert not held.asks
    held.receive(window(5, 3, branch=1), 3.0)
    assert commit(held) == (4, 5, True)


def test_a_window_that_stands_ends_its_branch_if_the_next_token_was_not_guessed() -> None:
    held = held_of(wrong=(4,))
    held.receive(window(1, 0), 1.0)
    held.receive(window(2, 4), 1.0)
    assert commit(held, 4) == (4, 5, False)
    assert numbers(held) == []


def test_a_text_ends_where_it_ends_whatever_was_drafted_behind() -> None:
    held = held_of(output=6)
    held.receive(window(1, 0), 1.0)
    held.receive(window(2, 4), 1.0)
    assert commit(held) == (6, 6, False)


def test_a_grant_reaches_as_far_as_the_furthest_that_came() -> None:
    held = held_of(length=3)
    held.receive(Grant(10, GRANT, fresh=True), 5.0)
    held.part = 2
    held.receive(Grant(8, GRANT, fresh=False), 6.0)
    assert (held.grant_end, held.since_ms, held.part) == (10, 5.0, 2)
    held.receive(Grant(20, GRANT, fresh=False), 7.0)
    assert (held.grant_end, held.since_ms, held.part) == (20, 5.0, 2)
    held.length = 20
    assert not held.asks
    held.receive(Grant(20, GRANT, fresh=False), 8.0)
    assert not held.asks
    held.receive(Grant(30, GRANT, fresh=True), 9.0)
    assert (held.asks, held.since_ms, held.part) == (True, 9.0, 0)


def test_a_grant_that_reaches_as_far_as_the_one_before_brings_its_window() -> None:
    held = held_of(length=3)
    held.receive(Grant(10, Choice(8, 1, Mode.COLOCATED, 8), fresh=True), 5.0)
    held.part = 2
    held.receive(Grant(10, Choice(2, 1, Mode.COLOCATED, 8), fresh=False), 6.0)
    assert (held.grant_choice.window, held.since_ms, held.part) == (2, 5.0, 2)


def test_a_session_is_not_due_while_it_streams_and_what_it_streamed_is_no_turnaround() -> None:
    held = held_of()
    for number in range(1, 5):
        held.receive(window(number, held.length, branch=held.branch), 100.0 * number)
        held.length, held.branch = held.length + 1, held.branch + 1
        held.answered((held.pending[0],), 100.0 * number + 50)
    assert held.turnaround.due_s(0.46) is not None
    held.receive(Grant(90, GRANT, fresh=True), 500.0)
    assert held.turnaround.due_s(0.46) is None
    assert held.turnaround.mean_s == pytest.approx(0.05)
