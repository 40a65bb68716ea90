from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from dsdq.policies.pipeline import Outcome, World, simulate
from dsdq.policies.window import Choice, Mode, Observation, Static, rates
from dsdq.policies.window.rates import Speeds
from dsdq.policies.window.simple import Threshold

WORLD = World(acceptance=0.8, draft_ms=2, rtt_ms=60, step_ms=10, position_ms=0.5)


@dataclass
class Always:
    """A policy that wants one thing, and keeps what it was told."""

    choice: Choice

    def __post_init__(self) -> None:
        self.seen: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        self.seen.append(observation)

    def choose(self) -> Choice:
        return self.choice

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        return True


def speeds(world: World) -> Speeds:
    return Speeds(world.acceptance, world.draft_ms, world.rtt_ms, 0, world.step_ms, world.position_ms)


def digest(outcome: Outcome) -> list[tuple[float, int]]:
    return [(one.time_ms, one.committed) for one in outcome.rounds]


def test_one_seed_one_outcome() -> None:
    rough = replace(WORLD, jitter_ms=5, busy=0.5)
    first, again, other = (simulate(Static(4, 3), rough, seed=seed, tokens=500) for seed in (1, 1, 2))
    assert digest(first) == digest(again) != digest(other)


def test_guesses_that_are_known_need_no_luck() -> None:
    known = {position: position not in {2, 9} for position in range(40)}
    outcome = simulate(Static(4), WORLD, seed=1, tokens=20, known=known)
    assert [one.committed for one in outcome.rounds] == [3, 5, 2, 5, 5]


@pytest.mark.parametrize("window", [1, 4, 8])
@pytest.mark.parametrize("acceptance", [0.3, 0.9])
def test_a_sequential_round_takes_what_the_formula_says(window: int, acceptance: float) -> None:
    world = replace(WORLD, acceptance=acceptance)
    outcome = simulate(Static(window), world, seed=3, tokens=20_000)
    taken_ms = window * 2 + 60 + 10 + 0.5 * (window + 1)
    assert outcome.rounds[-1].time_ms == pytest.approx(taken_ms * len(outcome.rounds))
    expected = float(rates.expected_tokens(acceptance, np.asarray([float(window)]))[0])
    assert outcome.committed / len(outcome.rounds) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("draft_ms", [0.5, 8])
@pytest.mark.parametrize("rtt_ms", [0, 30, 200])
@pytest.mark.parametrize(("window", "depth"), [(2, 2), (4, 3), (8, 4)])
def test_a_pipeline_comes_to_the_rate_of_its_formula(draft_ms: float, rtt_ms: float, window: int, depth: int) -> None:
    world = replace(WORLD, draft_ms=draft_ms, rtt_ms=rtt_ms)
    simulated = simulate(Static(window, depth), world, seed=4, tokens=10_000).tokens_per_s()
    expected = rates.pipelined_rates(speeds(world), np.asarray([float(window)]), np.asarray([depth]))
    assert simulated == pytest.approx(float(expected[0]), rel=0.025)


def test_drafting_ahead_wins_where_the_network_is_slow_and_drafts_are_good() -> None:
    world = replace(WORLD, acceptance=0.9)
    best = max(simulate(Static(window), world, seed=5, tokens=4000).tokens_per_s() for window in range(4, 25, 2))
    ahead = simulate(Static(8, 4), world, seed=5, tokens=4000)
    assert 1.1 < ahead.tokens_per_s() / best < 1.5
    assert ahead.wasted > 0


def test_what_never_stands_commits_one_token_a_round_and_wastes_the_rest() -> None:
    outcome = simulate(Static(4, 2), replace(WORLD, acceptance=0.0), seed=6, tokens=50)
    assert {one.committed for one in outcome.rounds} == {1}
    assert outcome.wasted >= 4 * len(outcome.rounds)


def test_perfect_drafts_keep_the_device_busy_without_end() -> None:
    outcome = simulate(Static(8, 8), replace(WORLD, acceptance=1.0), seed=7, tokens=5000)
    assert outcome.tokens_per_s(20) == pytest.approx(1000 / 2, rel=0.02)
    # A window's last token is known before the next window's first: what is drafted twice is the bonus token only.
    assert outcome.drafted - outcome.wasted <= outcome.committed


def test_target_only_waits_for_the_network_once() -> None:
    outcome = simulate(Always(Choice(0, 1, Mode.TARGET_ONLY, 64)), WORLD, seed=8, tokens=1000)
    assert outcome.rounds[0].time_ms == pytest.approx(60 + 10.5)
    assert outcome.tokens_per_s(1) == pytest.approx(1000 / 10.5)


def test_a_grant_too_small_for_the_network_makes_the_stream_pause() -> None:
    outcome = simulate(Always(Choice(0, 1, Mode.TARGET_ONLY, 4)), WORLD, seed=8, tokens=1000)
    assert outcome.tokens_per_s() < 1000 / 20


def test_colocated_drafting_comes_to_its_formula() -> None:
    world = replace(WORLD, server_acceptance=0.7, server_draft_ms=1)
    outcome = simulate(Always(Choice(3, 1, Mode.COLOCATED, 128)), world, seed=9, tokens=10_000)
    expected = rates.colocated_rates(speeds(world), 0.7, 1, np.asarray([3.0]))
    assert outcome.tokens_per_s(1) == pytest.approx(float(expected[0]), rel=0.02)


def test_a_busy_verifier_keeps_rounds_waiting_and_says_so() -> None:
    policy = Always(Choice(4))
    simulate(policy, replace(WORLD, busy=1.0), seed=10, tokens=2000)
    waits = [one.queue_ms for one in policy.seen]
    assert np.mean(waits) == pytest.approx(12.5 / 2, rel=0.1)
    assert all(one.round_trip_ms == pytest.approx(60 + one.queue_ms + one.verify_ms) for one in policy.seen)


def test_confidence_that_tells_something_spares_drafts() -> None:
    world = replace(WORLD, acceptance=0.5, spread=1.0)
    whole = simulate(Static(8), world, seed=11, tokens=2000)
    picky = simulate(Threshold(0.4, 8), world, seed=11, tokens=2000)
    assert picky.wasted < 0.5 * whole.wasted
    assert picky.tokens_per_s() > whole.tokens_per_s()


def test_a_world_may_change_while_it_is_simulated() -> None:
    outcome = simulate(
        Static(4), lambda now_ms: replace(WORLD, rtt_ms=0 if now_ms < 1000 else 200), seed=12, tokens=200
    )
    gaps = np.diff([one.time_ms for one in outcome.rounds])
    assert gaps[0] == pytest.approx(8 + 12.5)
    assert gaps[-1] == pytest.approx(8 + 12.5 + 200)


def test_guessing_along_with_a_stream_shows_the_acceptance() -> None:
    seeing, blind = (Always(Choice(0, 1, Mode.TARGET_ONLY, 64)) for _ in range(2))
    simulate(seeing, WORLD, seed=13, tokens=3000)
    simulate(blind, WORLD, seed=13, tokens=3000, sees=False)
    guessed, right = (sum(getattr(one, name) for one in seeing.seen) for name in ("guessed", "guessed_right"))
    assert guessed >= 1000  # up to four in a row of every eight, up to the first that is wrong
    assert right / guessed == pytest.approx(0.8, abs=0.03)
    assert not any(one.guessed for one in blind.seen)


@pytest.mark.parametrize(("window", "depth"), [(4, 2), (8, 4)])
@pytest.mark.parametrize(("behind", "first"), [(0.95, 0.3), (0.6, 0.9)])
def test_first_tokens_that_are_another_matter_are_in_the_formula(
    window: int, depth: int, behind: float, first: float
) -> None:
    world = replace(WORLD, acceptance=behind, first=first)
    own = simulate(Static(window, depth), world, seed=5, tokens=20_000).tokens_per_s()
    told = replace(speeds(world), first=first)
    expected = rates.pipelined_rates(told, np.asarray([float(window)]), np.asarray([depth]))
    assert own == pytest.approx(float(expected[0]), rel=0.1)
