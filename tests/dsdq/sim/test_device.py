"""What a device's policy sees of a simulated world."""

from __future__ import annotations

import gc

import pytest

from dsdq.policies.window import Observation
from dsdq.policies.window.simple import Backoff
from dsdq.sim.device import Generation
from dsdq.sim.run import begin, simulate
from tests.dsdq.sim.worlds import scenario_of


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
    seen: list[Observation] = []

    class Watched(Backoff):
        def observe(self, observation: Observation) -> None:
            seen.append(observation)
            super().observe(observation)

    simulate(scenario, load=lambda _, offer: Watched(offer))
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
