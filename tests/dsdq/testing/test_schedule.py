from __future__ import annotations

import random
from itertools import pairwise

from dsdq.testing.schedule import KILLS, Act, draw, draw_kills

LEASE_S = 2.0


def test_equal_seeds_break_the_same_things_at_the_same_time() -> None:
    assert draw(random.Random(5), 180, LEASE_S) == draw(random.Random(5), 180, LEASE_S)
    assert draw(random.Random(5), 180, LEASE_S) != draw(random.Random(6), 180, LEASE_S)


def test_a_minute_is_enough_for_everything_to_go_wrong() -> None:
    for seed in range(50):
        events = draw(random.Random(seed), 60, LEASE_S)
        assert {event.act for event in events} == set(Act), f"seed {seed}"
        assert [event.at_s for event in events] == sorted(event.at_s for event in events)
        assert all(0 < event.at_s < 60 for event in events)


def test_a_verifier_is_stopped_for_longer_than_its_lease() -> None:
    stops = [event for event in draw(random.Random(5), 600, LEASE_S) if event.act is Act.STOP_VERIFIER]
    assert stops
    assert all(event.lasts_s > LEASE_S for event in stops)


def test_the_kills_are_three_with_time_for_a_start_in_between() -> None:
    for seed in range(50):
        events = draw_kills(random.Random(seed), 30, LEASE_S)
        assert [event.act for event in events] == [Act.KILL_VERIFIER] * KILLS, f"seed {seed}"
        pauses_s = [after.at_s - before.at_s for before, after in pairwise(events)]
        assert min(pauses_s) > 30 / KILLS / 2
        assert 0 < events[0].at_s < events[-1].at_s < 30
