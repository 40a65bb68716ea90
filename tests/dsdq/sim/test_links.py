from __future__ import annotations

from dsdq.sim.links import Direction, RoundTrip, connect
from dsdq.sim.scenario.model import Link
from dsdq.sim.streams import Streams


def up_of(link: Link) -> Direction:
    return connect(link, RoundTrip(link), Streams(1), (0,), 0.0)[0]


def test_others_may_overtake_what_is_reordered_and_nothing_else() -> None:
    up = up_of(Link(rtt_ms=20.0, jitter_ms=30.0, reorder=0.3))
    arrivals = [up.arrival_ms(float(sent), 100) for sent in range(300)]
    latest, overtaken = 0.0, 0
    for place, there_ms in enumerate(arrivals):
        if any(later < there_ms for later in arrivals[place + 1 :]):
            overtaken += 1
            # It left in its turn, and took a round trip longer than that.
            assert there_ms >= latest + 20.0
        else:
            assert there_ms >= latest
            latest = there_ms
    assert 50 < overtaken < 130


def test_a_message_waits_for_those_that_fill_the_line() -> None:
    up = up_of(Link(rtt_ms=10.0, up_kbps=80.0))  # 100 bytes take 10 ms
    assert [up.arrival_ms(0.0, 100), up.arrival_ms(0.0, 100), up.arrival_ms(100.0, 50)] == [15.0, 25.0, 110.0]


def test_a_way_that_is_always_the_same_is_as_one_that_might_not_be() -> None:
    always, maybe = (up_of(link) for link in (Link(rtt_ms=20.0), Link(rtt_ms=20.0, loss=1e-15)))
    sent = [0.0, 0.0, 3.5, 100.0]
    assert [always.arrival_ms(at_ms, 100) for at_ms in sent] == [maybe.arrival_ms(at_ms, 100) for at_ms in sent]
    assert [always.arrival_ms(at_ms, 100) for at_ms in sent] == [at_ms + 10.0 for at_ms in sent]
