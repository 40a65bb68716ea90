from __future__ import annotations

from dataclasses import replace

import pytest

from dsdq.policies.window.exploring import Explorer, View, stream
from dsdq.policies.window.optimal import Optimal
from dsdq.policies.window.planner import Plan
from dsdq.policies.window.protocol import Choice, Mode, Observation, Offer
from dsdq.policies.window.rates import Speeds


class Counting:
    """Plans ever wider windows, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def plans(self, view: View) -> dict[Mode, Plan]:
        self.asked += 1
        return {mode: Plan(Choice(self.asked), 50.0) for mode in view.modes}


def test_plans_are_made_once_a_verdict_and_anew_for_the_next() -> None:
    planner = Counting()
    policy = Explorer(Offer(32), planner, Counting(), [Choice(4)])
    verdict = Observation(4, 2, 4.0, 40.0, 0.0, 20.0, committed=3, draft_token_ms=1.0)
    while not planner.asked:
        policy.observe(verdict)
    assert policy.choose() == Choice(1)
    assert policy.plans() == policy.plans()
    assert planner.asked == 1
    policy.observe(verdict)
    assert policy.plans()[Mode.SPECULATE].choice == policy.choose() == Choice(2)
    assert planner.asked == 2


class Saying:
    """Plans these rates."""

    def __init__(self, alone: float, drafting: float) -> None:
        self._plans = {
            Mode.TARGET_ONLY: Plan(Choice(0, 1, Mode.TARGET_ONLY, 32), alone),
            Mode.SPECULATE: Plan(Choice(8), drafting),
        }

    def plans(self, view: View) -> dict[Mode, Plan]:
        return {mode: plan for mode, plan in self._plans.items() if mode in view.modes}


@pytest.mark.parametrize(("drafting", "guessed", "mode"), [
    (60.0, 4, Mode.SPECULATE),
    (31.0, 4, Mode.TARGET_ONLY),
    (60.0, 0, Mode.TARGET_ONLY),
])  # fmt: skip
def test_a_first_stream_ends_as_soon_as_drafts_are_clearly_better(drafting: float, guessed: int, mode: Mode) -> None:
    planner = Saying(30.0, drafting)
    offer = Offer(32, 1, frozenset({Mode.SPECULATE, Mode.TARGET_ONLY}))
    policy = Explorer(offer, planner, planner, [Choice(0, 1, Mode.TARGET_ONLY, 16)])
    verdict = Observation(0, 0, 0.0, 40.0, 0.0, 33.0, mode=Mode.TARGET_ONLY)
    policy.observe(verdict)
    assert policy.choose().mode is Mode.TARGET_ONLY
    policy.observe(replace(verdict, part=1, guessed=guessed, guessed_right=guessed, guess_ms=4.0, time_ms=33.0))
    assert policy.choose().mode is mode


def test_a_drafter_that_knows_nothing_ends_its_trial_and_is_left_for_the_target_alone() -> None:
    """Each of its rounds lets the target decode one token, for a whole round trip."""
    policy = Optimal(Offer(32, 1, frozenset({Mode.SPECULATE, Mode.TARGET_ONLY})))
    silent = Observation(0, 0, 0.0, 230.0, 0.0, 30.0, mode=Mode.TARGET_ONLY, wanted=8)
    drafting = [policy.choose().mode is Mode.SPECULATE]
    for number in range(1, 400):
        streams = policy.choose().mode is not Mode.SPECULATE
        told = replace(silent, wanted=0, part=1, round_trip_ms=30.0) if streams else silent
        policy.observe(replace(told, time_ms=1e8 + 230.0 * number))
        drafting.append(policy.choose().mode is Mode.SPECULATE)
    assert drafting[0]
    assert 0 < sum(drafting) < 20


def tries(before: int) -> int:
    """Return how often drafting is tried within a minute of a stream of 50 tokens a second.

    A try's verdict comes 600 ms later, and before it so many of ten tokens each, of a grant that had been asked for.
    """
    offer = Offer(32, 1, frozenset({Mode.SPECULATE, Mode.TARGET_ONLY}))
    policy = Explorer(offer, Saying(50.0, 40.0), Saying(50.0, 60.0), [Choice(0, 1, Mode.TARGET_ONLY, 16)])
    streamed = Observation(0, 0, 0.0, 20.0, 0.0, 20.0, mode=Mode.TARGET_ONLY, committed=10)
    now_ms, tried = 0.0, 0
    while now_ms < 60_000:
        if policy.choose().mode is Mode.SPECULATE:
            tried += 1
            for part in range(before):
                policy.observe(replace(streamed, part=1, time_ms=now_ms + 150.0 * part))
            now_ms += 600
            policy.observe(Observation(4, 0, 4.0, 600.0, 0.0, 20.0, committed=1, draft_token_ms=1.0, time_ms=now_ms))
        else:
            now_ms += 200
            policy.observe(replace(streamed, part=1, time_ms=now_ms))
    return tried


def test_what_a_grant_still_brings_during_a_trial_is_not_lost() -> None:
    """What is lost is kept account of: where nothing is, another try comes sooner."""
    assert 0 < tries(before=0) < tries(before=3) / 3


def test_a_grant_is_as_large_as_what_comes_of_it_and_no_larger() -> None:
    speeds = Speeds(acceptance=0.8, draft_ms=1.0, network_ms=100.0, queue_ms=0.0, step_ms=20.0, position_ms=0.1)
    whole, short = (stream(Mode.COLOCATED, 63, 40.0, speeds, drafted) for drafted in (None, 3.0))
    assert whole.choice.window == short.choice.window == 63
    on_the_way = 2 * 40.0 * 0.1
    assert (whole.choice.budget, short.choice.budget) == (2 * (on_the_way + 63 + 5), 2 * (on_the_way + 6 + 5))
