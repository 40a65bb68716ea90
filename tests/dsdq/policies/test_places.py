from __future__ import annotations

import pytest

from dsdq.policies.places import Places, Turnover, refusal_ms


def test_places_become_free_as_often_as_sessions_end() -> None:
    turnover = Turnover(slots=8)
    assert turnover.place_ms([0.5] * 8) == 0.0
    for _ in range(3):
        turnover.ended(1.6)
    assert turnover.place_ms([0.8] * 8) == pytest.approx(200)


def test_sessions_that_last_longer_than_those_before_them_put_the_next_end_off() -> None:
    turnover = Turnover(slots=2)
    turnover.ended(1.0)
    assert turnover.place_ms([60.0, 20.0]) == pytest.approx(20_000)


@pytest.mark.parametrize(
    ("turns", "place_ms", "ms"),
    [(10, 200.0, 0), (11, 200.0, 500), (1, 5000.0, 0), (2, 5000.0, 5000), (50, 0.0, 0)],
    ids=["soon", "too late", "the next place", "long sessions", "nothing known"],
)
def test_who_would_wait_too_long_is_told_when_a_quarter_of_the_others_has_got_places(
    turns: int, place_ms: float, ms: int
) -> None:
    assert refusal_ms(turns, place_ms, longest_ms=2000) == ms


@pytest.mark.parametrize(
    ("quiet", "held", "free"),
    [(0, 0, 4), (0, 4, 0), (0, 6, 0), (1, 4, 1), (3, 5, 2), (8, 7, 1), (8, 8, 0), (8, 11, 0)],
)
def test_quiet_sessions_lend_their_places_up_to_twice_as_many_as_there_are(quiet: int, held: int, free: int) -> None:
    places = Places(4, {f"s{number}" for number in range(quiet)})
    assert places.free(held) == free
    assert places.has("globex", ["globex"] * held, (), lambda _: 1.0) == bool(free)


@pytest.mark.parametrize(("quiet", "most"), [(0, 8), (3, 11), (4, 12), (9, 12)])
def test_lent_places_take_no_tenants_part_from_it(quiet: int, most: int) -> None:
    places = Places(4, {f"s{number}" for number in range(quiet)})
    for held in range(most + 2):
        holders = ["globex"] * held
        assert places.has("acme", holders, (), lambda _: 1.0) == (held < most)
        assert not places.has("acme", [*holders, *["acme"] * 8], (), lambda _: 1.0)
