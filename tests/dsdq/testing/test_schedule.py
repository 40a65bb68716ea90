from __future__ import annotations

import random

from dsdq.testing.schedule import Act, draw

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
