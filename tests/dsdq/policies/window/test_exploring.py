from __future__ import annotations

from dataclasses import replace

import pytest

from dsdq.policies.window.exploring import Explorer, View
from dsdq.policies.window.optimal import Optimal
from dsdq.policies.window.planner import Plan
from dsdq.policies.window.protocol import Choice, Mode, Observation, Offer


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
