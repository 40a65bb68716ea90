"""Rounds read off a text are the rounds that would have been."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq import accept
from dsdq.alignment.rounds import agreement, positions, runs_of, tokens_per_round

MISSED = [True, True, False, True, True, True]


def test_a_run_ends_at_a_miss_at_the_window_and_at_the_texts_end() -> None:
    assert runs_of(MISSED, 2) == [2, 1, 0, 2, 2, 1]
    assert runs_of(MISSED, 8) == [2, 1, 0, 3, 2, 1]


def test_a_guess_stands_up_to_its_first_wrong_token() -> None:
    assert agreement((1, 2, 9, 4), (1, 2, 3, 4)) == 2
    assert agreement((1, 2), (1, 2, 3)) == 2
    assert agreement((1, 2, 3), (1,)) == 1


def test_positions_count_only_what_was_judged() -> None:
    first, second, third = positions([runs_of(MISSED, 3)], 3)
    assert (first.judged, first.accepted, first.acceptance) == (6, 5, 5 / 6)
    assert (second.judged, second.accepted) == (4, 3)  # behind a first that stood, within the text
    assert (third.judged, third.accepted, third.survival) == (2, 1, 1 / 4)


def test_positions_that_no_text_reaches_are_left_out() -> None:
    assert len(positions([runs_of([True, True], 8)], 8)) == 2


def test_a_draft_that_is_always_right_or_never() -> None:
    assert tokens_per_round([[4] * 20], 4) == 5
    assert tokens_per_round([[0] * 20], 4) == 1
    assert tokens_per_round([[1, 0]], 4) is None


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 8))
def test_rounds_commit_what_the_coupled_rule_commits(stands: list[bool], window: int) -> None:
    text = [1] * (len(stands) + 1)
    committed = rounds = place = 0
    while place + window < len(stands):
        drafted = [1 if right else 0 for right in stands[place : place + window]]
        step = len(accept.coupled(drafted, text[place : place + window + 1]).tokens)
        place, committed, rounds = place + step, committed + step, rounds + 1
    expected = committed / rounds if rounds else None
    assert tokens_per_round([runs_of(stands, window)], window) == pytest.approx(expected)
