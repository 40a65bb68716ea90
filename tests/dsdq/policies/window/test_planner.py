from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdq.policies.window import Choice, planner, rates
from dsdq.policies.window.planner import DraftPlanner, best_drafting, windows_within
from dsdq.policies.window.rates import Speeds

WIDEST, DEEPEST = 20, 4

speeds = st.builds(
    Speeds,
    acceptance=st.floats(0.05, 0.95),
    draft_ms=st.floats(0.1, 10),
    network_ms=st.floats(0, 200),
    queue_ms=st.floats(0, 20),
    step_ms=st.floats(1, 50),
    position_ms=st.floats(0, 1),
)
changes = st.lists(st.tuples(*[st.floats(0.97, 1.03)] * 5), min_size=1, max_size=12)


def rate_of(now: Speeds, choice: Choice) -> float:
    window = np.asarray([float(choice.window)])
    if choice.depth == 1:
        return float(rates.sequential_rates(now, window)[0])
    return float(rates.pipelined_rates(now, window, np.asarray([choice.depth]))[0])


@settings(max_examples=60)
@given(speeds, changes)
def test_what_was_found_stays_nearly_the_best_while_speeds_move(
    first: Speeds, changes: list[tuple[float, ...]]
) -> None:
    kept, now = DraftPlanner(DEEPEST), first
    for acceptance, draft, network, queue, step in [(1.0,) * 5, *changes]:
        now = replace(
            now,
            acceptance=min(now.acceptance * acceptance, 0.98),
            draft_ms=now.draft_ms * draft,
            network_ms=now.network_ms * network,
            queue_ms=now.queue_ms * queue,
            step_ms=now.step_ms * step,
        )
        plan, best = kept.plan(now, WIDEST), best_drafting(now, windows_within(WIDEST), DEEPEST)
        assert 0.92 <= rate_of(now, plan.choice) / best.rate <= 1.0 + 1e-9, f"{now}: {plan}, the best is {best}"
        # Where one window just catches another's pass, or just does not, rates are not smooth.
        assert plan.rate == pytest.approx(rate_of(now, plan.choice), rel=0.15)


def test_no_search_is_made_while_nothing_moves_and_one_when_something_does() -> None:
    kept, now = DraftPlanner(DEEPEST), Speeds(0.8, 1.0, 30.0, 0.5, 10.0, 0.2)
    with patch.object(planner, "best_drafting", wraps=best_drafting) as searched:
        for network_ms in (30.0, 30.2, 29.8, 30.1):
            kept.plan(replace(now, network_ms=network_ms), WIDEST)
        assert searched.call_count == 1
        near = kept.plan(now, WIDEST)
        far = kept.plan(replace(now, network_ms=120.0), WIDEST)
        assert searched.call_count == 2
        assert far.rate < near.rate
        assert kept.plan(replace(now, network_ms=120.0), 4).choice.window <= 4
        assert searched.call_count == 3
