"""What a device's policy sees of a simulated world."""

from __future__ import annotations

import pytest

from dsdq.policies.window import Observation
from dsdq.policies.window.simple import Backoff
from dsdq.sim.run import simulate
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
    assert wide
    assert wide == pytest.approx([40 + 2 + 100] * len(wide))
