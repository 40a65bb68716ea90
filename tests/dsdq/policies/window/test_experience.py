from __future__ import annotations

import pytest

from dsdq.policies.window import Choice, Experience, Mode, Observation, Offer, load_policy
from dsdq.policies.window.optimal import Optimal

OFFER = Offer(32, 4, frozenset(Mode) - {Mode.COLOCATED})


def verdict(time_ms: float, accepted: int = 7) -> Observation:
    return Observation(8, accepted, 8.0, 45.0, 0.0, 35.0, committed=accepted + 1, draft_token_ms=1.0, time_ms=time_ms)


def streamed(time_ms: float) -> Observation:
    return Observation(
        0, 0, 0.0, 36.0, 0.0, 35.0, mode=Mode.TARGET_ONLY, guessed=4, guessed_right=4, guess_ms=4.0, time_ms=time_ms
    )


def taught(policy: Optimal, verdicts: int = 40) -> Optimal:
    for number in range(verdicts):
        policy.observe(verdict(50.0 * number))
    return policy


@pytest.mark.parametrize("name", ["optimal", "awc", "awc:paper"])
def test_a_text_begins_the_way_the_one_before_has_found(name: str) -> None:
    experience = Experience(4)
    first = experience.begin(load_policy(name, OFFER), "here")
    unknowing = first.choose()
    for number in range(40):
        first.observe(streamed(50.0 * number) if first.choose().mode is Mode.TARGET_ONLY else verdict(50.0 * number))
    second = experience.begin(load_policy(name, OFFER), "here")
    assert second.choose().mode is first.choose().mode is Mode.SPECULATE
    assert second.choose().window == pytest.approx(first.choose().window, rel=0.3)
    assert name == "awc:paper" or second.choose() != unknowing


def test_what_is_about_something_else_or_long_ago_is_no_experience() -> None:
    experience = Experience(2)
    taught(experience.begin(Optimal(OFFER), "a"))
    unknowing = Optimal(OFFER).choose()
    assert experience.begin(Optimal(OFFER), "b").choose() == unknowing
    assert experience.begin(Optimal(OFFER), "c").choose() == unknowing
    assert experience.begin(Optimal(OFFER), "a").choose() == unknowing


def test_a_text_that_has_shown_nothing_passes_on_what_it_began_with() -> None:
    experience = Experience(2)
    taught(experience.begin(Optimal(OFFER), "a"))
    second, third = (experience.begin(Optimal(OFFER), "a").choose() for _ in range(2))
    assert second == third != Optimal(OFFER).choose()


def test_a_policy_that_learns_nothing_begins_as_ever() -> None:
    experience = Experience(2)
    for _ in range(2):
        assert experience.begin(load_policy("static:5", OFFER), "a").choose() == Choice(5)


def test_nothing_is_learned_from_a_policy_of_another_kind() -> None:
    policy = Optimal(OFFER)
    policy.go_on_from(load_policy("awc:paper", OFFER))
    assert policy.choose() == Optimal(OFFER).choose()


def test_a_mode_that_was_never_on_offer_before_is_tried() -> None:
    later = Optimal(Offer(32, 4, frozenset(Mode)))
    later.go_on_from(taught(Optimal(OFFER)))
    assert later.choose().mode is Mode.COLOCATED


def test_what_was_learned_is_soon_outweighed() -> None:
    before = taught(Optimal(OFFER))
    now = Optimal(OFFER)
    now.go_on_from(before)
    began = now.plans()[Mode.SPECULATE].choice.window
    for number in range(10):
        now.observe(verdict(5000.0 + 50 * number, accepted=1))
    assert now.plans()[Mode.SPECULATE].choice.window <= began / 2
    assert before.plans()[Mode.SPECULATE].choice.window == pytest.approx(began, rel=0.3)  # a copy learned
