from __future__ import annotations

from dsdq.sim.links import RoundTrip
from dsdq.sim.reads import Feed
from dsdq.sim.scenario.model import Link

FAR, NEAR = RoundTrip(Link(rtt_ms=40.0)), RoundTrip(Link(rtt_ms=2.0))
BESIDE_MS = 2.0


def test_a_first_answer_leaves_at_once() -> None:
    assert Feed(FAR, BESIDE_MS).departs_ms(100.0, ahead=False) == 100.0


def test_an_answer_behind_it_waits_for_the_next_read() -> None:
    feed = Feed(FAR, BESIDE_MS)
    feed.departs_ms(100.0, ahead=False)
    assert feed.departs_ms(110.0, ahead=False) == 142.0


def test_what_waits_for_a_read_leaves_with_it_together() -> None:
    feed = Feed(FAR, BESIDE_MS)
    feed.departs_ms(100.0, ahead=False)
    assert [feed.departs_ms(at_ms, ahead=False) for at_ms in (110.0, 130.0, 142.0)] == [142.0] * 3
    assert feed.departs_ms(143.0, ahead=False) == 184.0


def test_a_read_that_is_there_already_takes_the_next_answer_along() -> None:
    feed = Feed(FAR, BESIDE_MS)
    feed.departs_ms(100.0, ahead=False)
    assert feed.departs_ms(300.0, ahead=False) == 300.0


def test_on_a_far_link_what_is_read_ahead_never_waits() -> None:
    feed = Feed(FAR, BESIDE_MS)
    feed.departs_ms(100.0, ahead=True)
    assert feed.departs_ms(110.0, ahead=True) == 110.0
    assert feed.departs_ms(120.0, ahead=False) == 142.0


def test_on_a_near_link_nothing_is_read_ahead() -> None:
    feed = Feed(NEAR, BESIDE_MS)
    feed.departs_ms(100.0, ahead=True)
    assert feed.departs_ms(101.0, ahead=True) == 104.0
