from __future__ import annotations

import numpy as np
import pytest

from dsdq.sim.guesses import MARGIN, ByPlace, Fixed, drawn, recorded
from dsdq.sim.scenario.workload import Acceptance
from dsdq.sim.streams import Streams


def test_a_run_ends_at_the_first_wrong_guess_or_where_it_is_to() -> None:
    guesses = Fixed([3, 5], 8)
    assert [guesses.run(base, 10) for base in range(10)] == [3, 2, 1, 0, 1, 0, 2, 1, 0, 0]
    assert guesses.run(0, 2) == 2


def test_guesses_by_place_count_from_their_draft() -> None:
    guesses = ByPlace([0.5] * 6, (0.6, 0.4, 0.6))
    assert guesses.run(0, 5) == 1  # the second place is too unlikely
    assert guesses.run(0, 5, place=2) == 5  # what is behind the last place is as that
    assert (guesses.run(4, 5, place=2), guesses.run(6, 5), guesses.run(9, 5)) == (2, 0, 0)


def test_recorded_guesses_repeat_themselves_with_their_confidences() -> None:
    guesses = recorded("110", 7, (0.9, 0.8, 0.1))
    assert [guesses.run(base, 9) for base in range(4)] == [2, 1, 0, 2]
    assert list(guesses.confidences(2, 3)) == [0.1, 0.9, 0.8]


def test_confidences_tell_the_more_of_a_token_the_more_they_are_said_to() -> None:
    def _gap(telling: float) -> float:
        acceptance, length = Acceptance(mean=0.6, telling=telling), 20_000
        guesses = drawn(acceptance, length, Streams(1).generator("text"))
        said = np.asarray(guesses.confidences(0, length))
        right = np.asarray([guesses.run(place, 1) for place in range(length)], dtype=bool)
        assert right.mean() == pytest.approx(0.6, rel=0.03)
        return float(said[right].mean() - said[~right].mean())

    assert 0 < _gap(0.3) < _gap(1.0)
    assert len(drawn(Acceptance(), 50, Streams(1).generator("text")).confidences(0, 5)) == 0


def test_guesses_go_on_a_little_behind_a_texts_end() -> None:
    guesses = drawn(Acceptance(mean=1.0), 10, Streams(1).generator("text"))
    assert guesses.run(0, 1000) == 10 + MARGIN


def test_a_longer_text_begins_as_a_shorter_one_does() -> None:
    """Of texts that differ in acceptance: were it drawn behind the places, it would depend on how many there are."""
    acceptance = Acceptance(mean=0.6, first=0.4, between=0.15, telling=0.5)
    for number in range(10):
        short, long = (drawn(acceptance, length, Streams(3).generator("text", number)) for length in (50, 500))
        assert [short.run(base, 20) for base in range(30)] == [long.run(base, 20) for base in range(30)]
        assert list(short.confidences(0, 50)) == list(long.confidences(0, 50))
