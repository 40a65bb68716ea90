"""One session, simulated by the fleet's simulator and by the policies' own: two programs, one answer.

The policies' own (``dsdq.policies.pipeline``) knows one device and speeds that may change at any moment; it shares no
code with ``dsdq.sim``, so either holds the other.
"""

from __future__ import annotations

import pytest

from dsdq.policies.pipeline import World, simulate
from dsdq.policies.window import Mode, Offer, load_policy
from dsdq.sim import run
from dsdq.sim.scenario.traces import Traces
from dsdq.sim.texts import Recording
from tests.dsdq.sim.worlds import scenario_of

TOKENS = 2000
RIGHT = "".join("0" if place * 7919 % 5 == 0 or place * 104729 % 11 == 3 else "1" for place in range(TOKENS + 64))
TRACES = Traces({"text": [Recording(RIGHT)]})
"""A text of which about three guesses in four are right, in no simple order."""


def fleets_ms(policy: str, rtt_ms: float, draft_ms: float) -> float:
    """Return the milliseconds of a token by the fleet's simulator, behind the first verdict."""
    scenario = scenario_of(
        duration_s=0.001,
        phone={"draft_ms": draft_ms, "link": {"rtt_ms": rtt_ms}},
        verifiers={"step_ms": 10.0, "position_ms": 0.5},
        workload={"output": {"mean": TOKENS}, "acceptance": {"trace": "text"}, "known_length": True},
        window={"policy": policy, "max_window": 16, "max_depth": 4},
        broker={"pushed": True},
    )
    (request,) = run.simulate(scenario, traces=TRACES).requests[:1]
    return (request.ended_ms - request.first_ms) / (TOKENS - 1)


def pipelines_ms(policy: str, rtt_ms: float, draft_ms: float) -> float:
    """Return the same by the policies' own simulation."""
    world = World(acceptance=0.0, draft_ms=draft_ms, rtt_ms=rtt_ms, step_ms=10.0, position_ms=0.5)
    known = {place: one == "1" for place, one in enumerate(RIGHT)}
    chooses = load_policy(policy, Offer(16, 4, frozenset({Mode.SPECULATE, Mode.TARGET_ONLY})))
    rounds = simulate(chooses, world, seed=1, tokens=TOKENS, known=known).rounds
    return (rounds[-1].time_ms - rounds[0].time_ms) / (TOKENS - 1)


@pytest.mark.parametrize("draft_ms", [0.5, 4.0])
@pytest.mark.parametrize("rtt_ms", [0.0, 25.0, 120.0])
@pytest.mark.parametrize("policy", ["static:4", "static:3:2", "static:8:4", "target-only"])
def test_both_simulations_take_as_long_for_a_text(policy: str, rtt_ms: float, draft_ms: float) -> None:
    assert fleets_ms(policy, rtt_ms, draft_ms) == pytest.approx(pipelines_ms(policy, rtt_ms, draft_ms), rel=0.01)
