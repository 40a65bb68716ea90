from __future__ import annotations

import pytest

from dsdq.policies.pipeline import World, simulate
from dsdq.policies.window import Choice, Mode, Observation, Offer, Static
from dsdq.policies.window.simple import Backoff, Threshold

OFFER = Offer(max_window=8, modes=frozenset({Mode.SPECULATE, Mode.TARGET_ONLY}))


def seen(drafted: int, accepted: int) -> Observation:
    return Observation(drafted, accepted, draft_ms=drafted, round_trip_ms=50, queue_ms=0, verify_ms=10)


def test_a_static_window_ignores_what_it_observes() -> None:
    policy = Static(4, depth=2)
    policy.observe(seen(4, 0))
    assert policy.choose() == Choice(window=4, depth=2)
    assert policy.wants_more(0.01, 1)


def test_a_threshold_ends_a_draft_behind_the_first_token_that_its_drafter_doubts() -> None:
    policy = Threshold(confidence=0.4, window=8)
    assert policy.choose() == Choice(8)
    assert policy.wants_more(0.4, 1)
    assert not policy.wants_more(0.39, 2)


def test_backing_off_halves_a_rejected_window_and_grows_one_that_stands_by_a_token() -> None:
    policy = Backoff(OFFER)
    windows = []
    for accepted_share in (1, 1, 0, 0, 1):
        window = policy.choose().window
        policy.observe(seen(window, window * accepted_share))
        windows.append(policy.choose().window)
    assert windows == [5, 6, 3, 1, 2]


def test_a_window_of_which_half_stood_stays() -> None:
    policy = Backoff(OFFER)
    policy.observe(seen(4, 2))
    assert policy.choose().window == 4


def test_backing_off_stays_within_the_contract() -> None:
    policy = Backoff(OFFER)
    for _ in range(20):
        policy.observe(seen(policy.choose().window, policy.choose().window))
    assert policy.choose().window == OFFER.max_window


def test_backing_off_from_everything_ends_in_target_only() -> None:
    policy = Backoff(OFFER)
    for _ in range(3):
        policy.observe(seen(policy.choose().window, 0))
    assert policy.choose().mode is Mode.TARGET_ONLY


class Watched(Backoff):
    """Notes after every verdict when it came, and what would be asked for next."""

    def __init__(self, offer: Offer) -> None:
        super().__init__(offer)
        self.rounds: list[tuple[float, Choice]] = []

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        self.rounds.append((observation.time_ms, self.choose()))


@pytest.mark.parametrize("seed", range(6))
def test_backing_off_follows_the_acceptance_there_and_back_within_ten_rounds(seed: int) -> None:
    def world(now_ms: float) -> World:
        return World(0.02 if 4000 <= now_ms < 8000 else 0.95, draft_ms=1, rtt_ms=30, step_ms=10)

    policy = Watched(OFFER)
    simulate(policy, world, seed=seed, tokens=1200)
    fallen = [choice for time_ms, choice in policy.rounds if time_ms >= 4000][:10]
    risen = [choice for time_ms, choice in policy.rounds if time_ms >= 8000][:16]  # tokens, of half a grant
    assert any(choice.mode is Mode.TARGET_ONLY for choice in fallen)
    assert any(choice.mode is Mode.SPECULATE for choice in risen)
