"""The least place where something holds, with few questions."""

from __future__ import annotations

import pytest

from dsdq.sim.search import least, least_by_doubling


@pytest.mark.parametrize("begins", range(12))
def test_the_least_place_is_found(begins: int) -> None:
    expected = None if begins > 10 else max(begins, 2)
    assert least(lambda place: place >= begins, 2, 10) == expected


@pytest.mark.parametrize("guess", [1, 2, 7, 20])
@pytest.mark.parametrize("begins", [*range(1, 22)])
def test_it_is_found_from_any_first_guess(begins: int, guess: int) -> None:
    expected = None if begins > 20 else begins
    assert least_by_doubling(lambda place: place >= begins, guess, 20) == expected


def test_few_places_are_asked_for() -> None:
    asked: list[int] = []

    def holds(place: int) -> bool:
        asked.append(place)
        return place >= 700

    assert least(holds, 0, 1023) == 700
    assert len(asked) <= 12
