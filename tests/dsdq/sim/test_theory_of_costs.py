"""Delays, energy and cost by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dsdq.sim.figures import figures
from dsdq.sim.links import RoundTrip, connect
from dsdq.sim.run import simulate
from dsdq.sim.scenario.model import Link
from dsdq.sim.streams import Streams
from tests.dsdq.sim.worlds import scenario_of


def delays_ms(link: Link, size: float, pause_ms: float = 10_000.0, count: int = 20_000) -> tuple[float, float]:
    """Return the mean delay of messages up and down, sent so far apart that none waits for another."""
    up, down = connect(link, RoundTrip(link), Streams(1), (1,), 0.0)
    times = [number * pause_ms for number in range(count)]
    return tuple(float(np.mean([way.arrival_ms(at_ms, size) - at_ms for at_ms in times])) for way in (up, down))  # type: ignore[return-value]


def test_a_message_takes_its_part_of_the_round_trip_and_its_bits_over_the_bandwidth() -> None:
    link = Link(rtt_ms=50, up_share=0.6, up_kbps=100, down_kbps=1000)
    # 250 bytes are 2,000 bits: 20 ms at 100 kbit/s, 2 ms at 1,000
    assert delays_ms(link, 250, count=10) == pytest.approx((30 + 20, 20 + 2))


def test_a_round_trip_goes_by_its_trace_which_repeats_itself() -> None:
    trip = RoundTrip(Link(trace=((0, 10), (2, 80), (3, 40))))
    assert [trip.at(1000 * at_s) for at_s in (0, 1.9, 2, 3.9, 4, 6)] == [10, 10, 80, 40, 10, 80]
    assert RoundTrip(Link(trace=((0, 15),))).at(99_000) == 15


def test_losses_and_jitter_add_their_means() -> None:
    link = Link(rtt_ms=50, jitter_ms=8, loss=0.2, resend_ms=200)
    # half of the jitter in each direction; p/(1-p) losses of a message on average
    expected = 25 + 4 + 0.2 / 0.8 * 200
    assert delays_ms(link, 90) == pytest.approx((expected, expected), rel=0.02)


def test_messages_faster_than_the_bandwidth_queue_up() -> None:
    link = Link(rtt_ms=0, up_kbps=8)
    up, _ = connect(link, RoundTrip(link), Streams(1), (1,), 0.0)
    assert [up.arrival_ms(0.0, 100) for _ in range(3)] == [100, 200, 300]


def test_a_broken_connection_delays_what_is_sent_by_what_is_left_of_the_break() -> None:
    """Breaks of mean length b, p of the time: p·b more on average (they are exponential, so forget their age)."""
    link = Link(rtt_ms=0, drops_per_hour=180, drop_s=5)
    broken = 5 / (20 + 5)  # 20 s between them
    assert delays_ms(link, 90, pause_ms=50_000)[0] == pytest.approx(broken * 5000, rel=0.02)


def test_energy_and_cost_of_two_texts() -> None:
    scenario = scenario_of(
        duration_s=0.2,
        phone={
            "draft_watts": 4.0,
            "radio_joule_per_mb": 10.0,
            "arrivals": {"think_s": 0.0},
            "link": {"rtt_ms": 10.0},
        },
        verifiers={"step_ms": 40.0, "watts": 300.0, "idle_watts": 100.0, "per_hour": 3.6},
        workload={"output": {"mean": 10}, "acceptance": {"mean": 1.0}, "known_length": True},
        broker={"message_bytes": 100.0, "token_bytes": 2.0},
        prices={"per_kwh": 0.36, "per_million": {"committed": 7.0}},
    )
    # A text: draft 4 (12 ms), 5 ms up with the opening (it comes within neither 10 ms), a step of 40, 5 ms down: 5
    # tokens. Again, 4 drafts and all 10 are there.
    record = simulate(scenario)
    opened_alone_ms = record.requests[0].first_ms
    assert opened_alone_ms == pytest.approx(10 + 5 + 5 + 5 + 40 + 5)
    found = figures(scenario, record)
    texts, ended_ms = len(record.requests), record.requests[0].ended_ms
    assert (texts, ended_ms) == (2, pytest.approx(opened_alone_ms + 12 + 5 + 40 + 5))
    # drafts: 8 of 3 ms at 4 W; bytes: an opening and two windows up, the place and two verdicts down
    sent_mb = (100 + 2 + (100 + 8) * 2 + 100 + (100 + 10) * 2) / 1e6
    assert found["device_joule_per_token"] == pytest.approx((4 * 0.024 + 10 * sent_mb) / 10)
    # within 200 ms: 3 whole steps and what of the fourth lies before
    busy_s = record.busy_ms / 1000
    steps_ms = [25 + 0.0, ended_ms - 45, ended_ms + 25.0, 2 * ended_ms - 45]
    assert record.busy_ms == pytest.approx(sum(min(40.0, max(200 - at_ms, 0.0)) for at_ms in steps_ms))
    joule = 300 * busy_s + 100 * (0.2 - busy_s)
    assert found["cloud_joule_per_token"] == pytest.approx(joule / record.committed.total())
    money = 0.2 / 3600 * 3.6 + joule / 3_600_000 * 0.36
    assert found["cost_per_million"] == pytest.approx(1e6 * money / record.committed.total())
    assert found["billed_per_million"] == pytest.approx(7.0)
