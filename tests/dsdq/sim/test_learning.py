from __future__ import annotations

import random

import pytest

from dsdq.policies.window import Mode
from dsdq.sim.learning import Trials, acceptance_of, guesses_of, spread
from dsdq.sim.observed import Answer, Observed

SEED = 11


def text(*rounds: str, number: int | None = None, mode: Mode = Mode.SPECULATE) -> Observed:
    answers = tuple(
        Answer(at_ms=10.0 * place, kinds=kinds, judged=4, mode=mode, waited_ms=9.0, queue_ms=0.0, verify_ms=5.0)
        for place, kinds in enumerate(rounds, 1)
    )
    return Observed(policy="static:4:1", prompt=3, text=number, ttft_ms=10.0, answers=answers)


def rounds_of(coins: list[bool], window: int = 4) -> list[str]:
    """Return the rounds of synchronous windows over guesses that are right or wrong by their place."""
    found, place = list[str](), 0
    while place + window < len(coins):
        right = next((number for number in range(window) if not coins[place + number]), window)
        found.append("a" * right + ("b" if right == window else "c"))
        place += right + 1
    return found


def test_the_mean_counts_right_guesses_and_first_wrong_ones() -> None:
    found = acceptance_of([text("aac", "aaab", "c")], Mode.SPECULATE)
    assert found is not None
    assert found.mean == pytest.approx(5 / 7)
    assert (found.first, found.between) == (None, 0.0)


def test_only_the_modes_own_drafts_count() -> None:
    both = [text("aac"), text("cc", mode=Mode.COLOCATED), text("tt", mode=Mode.TARGET_ONLY)]
    assert guesses_of(both, Mode.COLOCATED) == {"alone 1": {0: False, 1: False}}
    assert acceptance_of(both, Mode.TARGET_ONLY) is None


def test_a_text_that_ran_twice_counts_once() -> None:
    once = [text("aac", number=4)]
    twice = [*once, text("aac", "aab", number=4)]
    assert guesses_of(twice, Mode.SPECULATE) == {"4": {0: True, 1: True, 2: False, 3: True, 4: True}}
    assert len(guesses_of([text("aac"), text("aac")], Mode.SPECULATE)) == 2


def test_independent_guesses_are_told_by_their_mean_alone() -> None:
    luck = random.Random(SEED)
    texts = [text(*rounds_of([luck.random() < 0.7 for _ in range(400)])) for _ in range(10)]
    found = acceptance_of(texts, Mode.SPECULATE)
    assert found is not None
    assert found.mean == pytest.approx(0.7, abs=0.03)
    assert found.first is None
    assert found.between < 0.03


def test_a_drafter_that_is_worse_behind_a_mistake_is_found_out() -> None:
    luck, texts = random.Random(SEED), list[Observed]()
    for _ in range(10):
        coins = [True]
        for _ in range(400):
            coins.append(luck.random() < (0.9 if coins[-1] else 0.5))
        texts.append(text(*rounds_of(coins)))
    found = acceptance_of(texts, Mode.SPECULATE)
    assert found is not None
    assert found.first is not None
    assert (found.mean, found.first) == (pytest.approx(0.9, abs=0.03), pytest.approx(0.5, abs=0.06))


def test_texts_that_differ_by_more_than_luck_have_a_spread() -> None:
    assert spread([Trials(1000, 900), Trials(1000, 500)], 0.7) == pytest.approx(0.28, abs=0.02)
    assert spread([Trials(10, 7), Trials(10, 8)], 0.75) == 0.0
    assert spread([Trials(10, 7)], 0.7) == 0.0
