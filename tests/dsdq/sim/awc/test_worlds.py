from __future__ import annotations

import numpy as np
import pytest

from dsdq.policies.window import Mode
from dsdq.policies.window.planner import Plan
from dsdq.policies.window.ways import DRAFTED, FEATURES, WAYS
from dsdq.sim.awc.labels import spec
from dsdq.sim.awc.watching import NOTED_VERDICTS, WATCHED_TEXTS, Fixed, watched
from dsdq.sim.awc.worlds import World, draw
from dsdq.sim.run import simulate


def test_worlds_are_as_wide_as_devices_may_meet_them() -> None:
    worlds = [draw(np.random.default_rng([7, number])) for number in range(400)]
    assert 0.5 < np.mean([one.sessions == 1 for one in worlds]) < 0.7
    assert max(one.sessions for one in worlds) > 40
    round_trips_ms, shares = [one.rtt_ms for one in worlds], [one.acceptance for one in worlds]
    assert (min(round_trips_ms), max(round_trips_ms)) == (0, pytest.approx(300, rel=0.1))
    assert (min(shares), max(shares)) == pytest.approx((0.05, 0.95), abs=0.02)
    assert 0.4 < np.mean([one.own_draft_ms is None for one in worlds]) < 0.6


def test_every_way_is_a_policy_that_a_world_can_be_lived_in_with() -> None:
    world = next(one for one in map(_world, range(50)) if one.own_draft_ms is not None and one.sessions == 1)
    for way in (0, DRAFTED - 1, DRAFTED, len(WAYS) - 1):
        record = simulate(world.scenario(spec(WAYS[way])))
        assert [one.committed for one in record.requests] == [world.tokens]
        assert [one.choice.mode for one in record.requests if one.choice] == [WAYS[way].mode]


def test_devices_take_notes_of_what_they_know() -> None:
    world = next(one for one in map(_world, range(50)) if one.sessions > WATCHED_TEXTS)
    notes = watched(world, lambda _: Fixed(WAYS[0]))
    assert 0 < len(notes) <= WATCHED_TEXTS * len(NOTED_VERDICTS)
    for note in notes:
        assert len(note.features) == len(FEATURES)
        assert len(note.formulas) == len(WAYS)
        assert np.isfinite(note.features + note.formulas).all()


def test_a_fixed_planner_plans_nothing_else() -> None:
    class View:
        modes = frozenset({Mode.SPECULATE, Mode.TARGET_ONLY})

    assert Fixed(WAYS[5]).plans(View()) == {Mode.SPECULATE: Plan(WAYS[5], 1.0)}  # type: ignore[arg-type]
    assert Fixed(WAYS[-1]).plans(View()) == {}  # type: ignore[arg-type]


def _world(number: int) -> World:
    return draw(np.random.default_rng([3, number]))
