"""Where drafting stops to pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdq.alignment.speeds import Ways, matching_acceptance
from dsdq.policies.pipeline import World, simulate
from dsdq.policies.window import Static
from dsdq.policies.window.rates import Speeds, expected_tokens

SPEEDS = Speeds(acceptance=0.8, draft_ms=5, network_ms=0, queue_ms=0, step_ms=30, position_ms=0)
WAYS = Ways(SPEEDS, server_draft_ms=5, max_window=16, max_depth=4)

ways = st.builds(
    Ways,
    st.builds(
        Speeds,
        acceptance=st.floats(0, 1),
        draft_ms=st.floats(0, 40),
        network_ms=st.just(0.0),
        queue_ms=st.just(0.0),
        step_ms=st.floats(1, 100),
        position_ms=st.floats(0, 2),
    ),
    server_draft_ms=st.floats(0, 40),
    max_window=st.integers(1, 16),
    max_depth=st.integers(1, 4),
)


def test_one_in_flight_breaks_even_where_a_round_takes_as_long_as_its_tokens_alone() -> None:
    windows = np.arange(1.0, 17)
    closed_form = (expected_tokens(0.8, windows) * 30 - windows * 5 - 30).max()
    found = WAYS.break_even_ms(WAYS.sequential, WAYS.target_only())
    assert found == pytest.approx(closed_form, rel=0.01)


@given(ways)
@settings(max_examples=25)
def test_at_the_break_even_rates_meet_and_behind_it_drafting_loses(one: Ways) -> None:
    for other in (one.target_only(), one.colocated().rate):
        alone_ms, edge_ms = (one.break_even_ms(way, other) for way in (one.sequential, one.edge))
        assert edge_ms >= alone_ms * (1 - 1e-9)
        assert one.sequential(alone_ms + 1.0).rate < other * 1.001
        if alone_ms:
            assert one.sequential(alone_ms).rate == pytest.approx(1.001 * other)
        if edge_ms:
            assert one.edge(edge_ms).rate > other
        assert one.edge(2000 / other / (1 - min(one.speeds.acceptance, 0.999))).rate < other


def test_one_in_flight_never_beats_a_verifier_that_drafts_as_fast() -> None:
    """Speculation at a distance (arXiv 2606.25091): synchronous drafting over a network only loses time."""
    assert WAYS.break_even_ms(WAYS.sequential, WAYS.colocated().rate) == 0
    slow = replace(WAYS, server_draft_ms=50)
    assert slow.break_even_ms(slow.sequential, slow.colocated().rate) > 0


@pytest.mark.parametrize("rtt_ms", [10.0, 60.0])
def test_the_simulation_comes_to_the_rate_of_the_best_plan(rtt_ms: float) -> None:
    plan = WAYS.edge(rtt_ms)
    world = World(acceptance=0.8, draft_ms=5, rtt_ms=rtt_ms, step_ms=30)
    outcome = simulate(Static(plan.choice.window, plan.choice.depth), world, seed=1, tokens=20_000)
    assert outcome.tokens_per_s() == pytest.approx(plan.rate, rel=0.05)


@given(st.floats(0.01, 0.99), st.integers(1, 32))
def test_the_acceptance_that_matches_is_the_one_that_the_tokens_came_from(alpha: float, window: int) -> None:
    tokens = float(expected_tokens(alpha, np.asarray([float(window)]))[0])
    assert matching_acceptance(tokens, window) == pytest.approx(alpha, abs=1e-6)


def test_a_draft_that_is_always_right_still_has_a_break_even() -> None:
    assert matching_acceptance(17, 16) == pytest.approx(0.999)
    right = replace(WAYS, speeds=replace(SPEEDS, acceptance=1.0))
    assert right.break_even_ms(right.edge, right.target_only()) > WAYS.break_even_ms(WAYS.edge, WAYS.target_only())
