"""What a device's policy sees of a simulated world."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import ClassVar

import pytest

from dsdq.policies.window import Choice, Mode, Observation, Offer, WindowPolicy
from dsdq.policies.window.protocol import GUESSED_TOKENS
from dsdq.policies.window.simple import Backoff
from dsdq.sim.device import Generation
from dsdq.sim.run import begin, simulate
from dsdq.sim.scenario import Scenario
from tests.dsdq.sim.worlds import scenario_of


def observations(scenario: Scenario, policy: Callable[[Offer], WindowPolicy]) -> list[Observation]:
    """Return what all texts' policies of a simulated scenario are told."""
    seen: list[Observation] = []

    def _watched(_: str, offer: Offer) -> WindowPolicy:
        made = policy(offer)
        observe = made.observe

        def _observe(observation: Observation) -> None:
            seen.append(observation)
            observe(observation)

        made.observe = _observe  # type: ignore[method-assign]
        return made

    simulate(scenario, load=_watched)
    return seen


class Granting(Backoff):
    """Leaves everything to the verifier, in grants of so many tokens, and drafts again once it has seen enough."""

    def __init__(self, offer: Offer, grant: Choice, verdicts: int = 1 << 30) -> None:
        super().__init__(offer)
        self._grant, self._left = grant, verdicts

    uses_guesses: ClassVar[bool] = True

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        self._left -= 1

    def choose(self) -> Choice:
        return self._grant if self._left > 0 else super().choose()


@pytest.mark.parametrize("up_share", [0.0, 0.25, 1.0])
def test_a_round_trip_to_redis_is_the_messages_way_up_and_a_small_reply(up_share: float) -> None:
    """At 8 kbit/s a window of 4 takes 100 ms up, whatever part of the round trip the way up is."""
    scenario = scenario_of(
        duration_s=0.001,
        phone={"link": {"rtt_ms": 40.0, "up_share": up_share, "up_kbps": 8.0}},
        broker={"latency_ms": 1.0, "message_bytes": 90.0, "token_bytes": 2.5},
        workload={"acceptance": {"mean": 1.0}},
        window={"max_window": 4, "max_depth": 1},
    )
    seen = observations(scenario, Backoff)
    wide = [one.link_ms for one in seen if one.drafted == 4 and one.link_ms is not None]
    assert len(wide) > 1
    # The first one went along with the opening, whose prompt is a token of 2.5 bytes.
    assert wide == pytest.approx([40 + 2 + 102.5] + [40 + 2 + 100] * (len(wide) - 1))


@pytest.mark.parametrize("policy", ["static:4", "static:4:2", "optimal", "target-only"])
def test_a_text_that_is_over_is_not_kept_by_anybody(policy: str) -> None:
    """No collector runs in a simulation: what held itself would be there until its end."""
    scenario = scenario_of(
        duration_s=5.0,
        phone={"count": 3, "leave": 0.3, "arrivals": {"think_s": 0.0}, "open_timeout_ms": 100.0},
        verifiers={"slots": 1, "place_wait_ms": 0.0},
        workload={"output": {"mean": 20}},
        window={"policy": policy, "max_depth": 2},
    )
    gc.collect()
    gc.disable()
    try:
        world = begin(scenario)
        world.kernel.run()
        left = sum(isinstance(one, Generation) for one in gc.get_objects())
    finally:
        gc.enable()
    assert {one.outcome for one in world.record.requests} == {"finished", "refused", "left"}
    assert left == 0


def test_what_the_verifier_might_have_drafted_and_did_not_counts_as_not_known() -> None:
    """Eight that share a step are drafted for less far than they grant; their devices cannot tell why."""
    scenario = scenario_of(
        duration_s=0.001,
        phone={"count": 8},
        verifiers={"slots": 8, "draft": {"step_ms": 4.0}, "position_ms": 1.0},
        workload={"own_acceptance": {"mean": 0.5}},
        window={"max_window": 8},
    )
    seen = observations(scenario, lambda offer: Granting(offer, Choice(8, 1, Mode.COLOCATED, 32)))
    inside = [one for one in seen if one.part and one.wanted == 8]
    assert any(one.drafted < 8 for one in inside)
    assert len(inside) > len(seen) / 2


def test_what_is_guessed_along_with_a_stream_is_behind_where_that_began() -> None:
    """The device drafts for twenty verdicts, then lets the target go on: its first guess takes some tokens' time."""
    scenario = scenario_of(phone={"draft_ms": 10.0}, workload={"acceptance": {"mean": 1.0}})

    class Late(Granting):
        def choose(self) -> Choice:
            return Choice(2) if self._left > 0 else self._grant

    seen = observations(scenario, lambda offer: Late(offer, Choice(0, 1, Mode.TARGET_ONLY, 16), 20))
    streamed = [one for one in seen if one.mode is Mode.TARGET_ONLY]
    assert [one.guessed for one in streamed[: GUESSED_TOKENS - 1]] == [0] * (GUESSED_TOKENS - 1)
    assert any(one.guessed for one in streamed)


def test_a_drafter_reads_the_prompt_before_it_guesses() -> None:
    scenario = scenario_of(
        phone={"draft_ms": 1.0, "prompt_ms": 10.0}, workload={"prompt": {"mean": 101}, "acceptance": {"mean": 1.0}}
    )
    seen = observations(scenario, lambda offer: Granting(offer, Choice(0, 1, Mode.TARGET_ONLY, 16)))
    began_ms = seen[0].time_ms - seen[0].round_trip_ms
    first = next(one for one in seen if one.guessed)
    assert 1010.0 <= first.time_ms - began_ms < 1100.0


@pytest.mark.parametrize("acceptance", [0.5, 1.0])
def test_a_window_that_a_verdict_has_committed_meanwhile_is_not_sent(acceptance: float) -> None:
    """A window of one token is the guess of what the verdict before it adds."""
    scenario = scenario_of(
        phone={"draft_ms": 40.0, "link": {"rtt_ms": 5.0}},
        workload={"acceptance": {"mean": acceptance}},
        window={"max_depth": 2},
    )

    class Narrow(Backoff):
        def choose(self) -> Choice:
            return Choice(1, 2)

    seen = observations(scenario, Narrow)
    assert len(seen) > 20
    assert all(one.drafted for one in seen)
