from __future__ import annotations

from dsdq.policies.window.exploring import Explorer, View
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
