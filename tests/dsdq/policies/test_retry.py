"""When to ask again: timeouts follow the round trips, pauses grow and scatter, both within their bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.policies.retry import AnswerTimeout, Backoff

TRIPS_MS = st.floats(0, 1e6)


def test_before_the_first_answer_the_timeout_is_the_longest() -> None:
    assert AnswerTimeout(50, 5000).ms == 5000


@given(st.lists(TRIPS_MS, min_size=1), st.floats(0, 1000), st.floats(1000, 1e5))
def test_the_timeout_stays_within_its_bounds(trips_ms: list[float], least_ms: float, most_ms: float) -> None:
    timeout = AnswerTimeout(least_ms, most_ms)
    for trip_ms in trips_ms:
        timeout.observe(trip_ms)
        assert least_ms <= timeout.ms <= most_ms


@given(st.floats(1, 1e4))
def test_the_first_answer_leaves_room_for_two_more_of_its_kind(trip_ms: float) -> None:
    timeout = AnswerTimeout(0, 1e9)
    timeout.observe(trip_ms)
    assert timeout.ms == pytest.approx(3 * trip_ms)


@given(st.floats(1, 1e4))
def test_steady_answers_bring_the_timeout_close_to_them(trip_ms: float) -> None:
    timeout = AnswerTimeout(0, 1e9)
    for _ in range(100):
        timeout.observe(trip_ms)
    assert trip_ms <= timeout.ms <= 1.01 * trip_ms


def test_answers_that_scatter_leave_more_room_than_steady_ones() -> None:
    steady, scattered = AnswerTimeout(0, 1e9), AnswerTimeout(0, 1e9)
    for number in range(100):
        steady.observe(100)
        scattered.observe(50 if number % 2 else 150)
    assert scattered.ms > 150 > steady.ms


@given(st.integers(), st.floats(0.1, 1e3), st.floats(1e3, 1e5), st.integers(1, 100))
def test_a_pause_never_exceeds_its_doubling_bound(seed: int, first_ms: float, most_ms: float, tries: int) -> None:
    backoff = Backoff(random.Random(seed), first_ms, most_ms)
    for number in range(tries):
        assert 0 <= backoff.next_ms() <= min(most_ms, first_ms * 2.0**number)


@given(st.integers(), st.integers(0, 20))
def test_after_a_reset_pauses_are_short_again(seed: int, tries: int) -> None:
    backoff = Backoff(random.Random(seed), 10, 10_000)
    for _ in range(tries):
        backoff.next_ms()
    backoff.reset()
    assert backoff.next_ms() <= 10


def test_those_who_met_the_same_outage_come_back_at_different_moments() -> None:
    backoffs = [Backoff(random.Random(seed), 100, 10_000) for seed in range(100)]
    pauses = sorted(backoff.next_ms() for backoff in backoffs)
    assert len(set(pauses)) == len(pauses)
    assert pauses[10] < 25
    assert pauses[90] > 75
