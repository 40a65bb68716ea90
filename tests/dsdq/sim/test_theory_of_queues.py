"""Waiting and capacity: the simulator against queueing theory, and against what drafting elsewhere saves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise, repeat
from math import exp
from typing import Any

import numpy as np
import pytest

from dsdq.contract import MAX_WINDOW
from dsdq.policies.steering import Steering
from dsdq.sim.figures import figures
from dsdq.sim.kernel import Kernel
from dsdq.sim.record import Request
from dsdq.sim.run import begin, simulate
from dsdq.sim.streams import Streams
from tests.dsdq.sim.worlds import record_of, scenario_of

SERVICE_MS = 20.0
# Texts of one token, one to a step, asked for by so many devices that hardly any has two: the verifier is the queue.
ONE_TO_A_STEP: dict[str, Any] = {
    "way": "target-only",
    "duration_s": 150.0,
    "verifiers": {"step_ms": SERVICE_MS, "step_tokens": 1},
    "workload": {"output": {"mean": 1}},
}


def asked_for(per_s: float, **changes: Any) -> list[Request]:
    """Return the requests of Poisson arrivals at a rate."""
    phone = {"count": 1_000_000, "arrivals": {"per_s": per_s}}
    return record_of(**ONE_TO_A_STEP | {"phone": phone} | changes).requests


def lindley_ms(gaps_ms: Iterable[float], services_ms: Iterable[float]) -> Iterator[float]:
    """W_{n+1} = max(0, W_n + S_n - A_n): what a queue of one server comes to, arrival by arrival."""
    wait_ms = 0.0
    yield wait_ms
    for gap_ms, service_ms in zip(gaps_ms, services_ms, strict=False):
        wait_ms = max(0.0, wait_ms + service_ms - gap_ms)
        yield wait_ms


def gaps_ms(requests: list[Request]) -> list[float]:
    return [other.arrival_ms - one.arrival_ms for one, other in pairwise(requests)]


@pytest.mark.parametrize("load", [0.4, 0.7])
def test_steps_of_equal_length_make_an_m_d_1_queue(load: float) -> None:
    """W = ρ·D / (2·(1 - ρ)): each single wait is as by Lindley's recurrence, whose long run the formula gives."""
    requests = asked_for(1000 * load / SERVICE_MS)
    waited = [one.queue_ms for one in requests]
    assert waited == pytest.approx(list(lindley_ms(gaps_ms(requests), repeat(SERVICE_MS))))
    expected = load * SERVICE_MS / (2 * (1 - load))
    assert np.mean(waited) == pytest.approx(expected, rel=0.15)  # of some thousand requests no more can be said
    long_run = islice(Streams(2).exponentials(SERVICE_MS / load, "gaps"), 500_000)
    assert np.mean(list(lindley_ms(long_run, repeat(SERVICE_MS)))) == pytest.approx(expected, rel=0.01)


def test_steps_whose_length_varies_as_exponential_times_do_wait_as_in_m_m_1() -> None:
    """W = λ·E[S²] / (2·(1 - ρ)) (Pollaczek and Khinchine): ρ·E[S] / (1 - ρ), if S varies by its mean as in M/M/1."""
    requests = asked_for(
        25.0,
        duration_s=200.0,
        verifiers={"step_ms": 0.01, "position_ms": 0.02, "prefill_tokens": 1 << 20, "slots": 1},
        workload={"output": {"mean": 1}, "prompt": {"mean": 1000, "variation": 1.0}},
    )
    services = [0.01 + 0.02 * one.prompt for one in requests]
    waited = [one.ended_ms - one.arrival_ms - service for one, service in zip(requests, services, strict=True)]
    assert waited == pytest.approx(list(lindley_ms(gaps_ms(requests), services)), abs=1e-6)
    rate, mean, square = 0.025, np.mean(services), np.mean(np.square(services))
    assert (mean, square) == pytest.approx((20, 2 * 20**2), rel=0.1)  # an exponential's
    assert np.mean(waited) == pytest.approx(rate * square / (2 * (1 - rate * mean)), rel=0.15)


def test_clock_and_streams_alone_make_an_m_m_1_queue() -> None:
    """W = ρ / (μ - λ), and P(W > t) = ρ·e^{-(μ - λ)·t}. No length in a scenario is exponential to the letter."""
    kernel, streams, mean_ms, load = Kernel(), Streams(5), 10.0, 0.6
    gaps, services = streams.exponentials(mean_ms / load, "gaps"), streams.exponentials(mean_ms, "services")
    waited, free_ms = list[float](), [0.0]

    def _arrive(left: int) -> None:
        begins_ms = max(kernel.now_ms, free_ms[0])
        waited.append(begins_ms - kernel.now_ms)
        free_ms[0] = begins_ms + next(services)
        if left:
            kernel.after(next(gaps), _arrive, left - 1)

    kernel.at(0.0, _arrive, 200_000)
    kernel.run()
    assert np.mean(waited) == pytest.approx(load * mean_ms / (1 - load), rel=0.02)
    late = 20.0
    expected = load * exp(-(1 - load) / mean_ms * late)
    assert np.mean(np.asarray(waited) > late) == pytest.approx(expected, rel=0.02)


def test_littles_law_holds_of_the_sessions_at_a_verifier() -> None:
    """L = λ·W: the mean of the sessions that it holds, over time, is arrivals by time times the mean stay."""
    phone = {"count": 1_000_000, "arrivals": {"per_s": 30.0}}
    workload = {"output": {"mean": 20, "variation": 0.5}, "acceptance": {"mean": 0.7}}
    changes = ONE_TO_A_STEP | {"way": "distributed", "workload": workload, "phone": phone, "duration_s": 20.0}
    world = begin(scenario_of(**changes | {"verifiers": {"step_ms": SERVICE_MS, "slots": 8}}))
    verifier = world.cloud.route()
    assert verifier is not None
    held_ms, before_ms = 0.0, 0.0
    sessions = 0
    while world.kernel.advance():
        held_ms += sessions * (world.kernel.now_ms - before_ms)
        before_ms, sessions = world.kernel.now_ms, verifier.sessions + len(verifier.waiting)
    stays_ms = sum(one.ended_ms - one.arrival_ms for one in world.record.requests)  # it opens at once: no RTT
    assert held_ms == pytest.approx(stays_ms)
    assert verifier.sessions == 0


# Capacity


def saturated(way: str, acceptance: float = 0.85, window: int = 4, draft_ms: float = 3.0) -> dict[str, float]:
    """Return the figures of a verifier that many devices keep busy, which fast links and drafts do not hold up."""
    policy = {"co-located": f"co-located:{window}", "distributed": f"static:{window}"}[way]
    scenario = scenario_of(
        way=way,
        duration_s=25.0,
        warm_up_s=2.0,
        phone={"count": 60, "draft_ms": 0.5, "link": {"rtt_ms": 5.0}},
        verifiers={"step_ms": 30.0, "draft": {"step_ms": draft_ms}, "step_tokens": 8 * (window + 1)},
        window={"policy": policy},
        workload={"output": {"mean": 200}, "acceptance": {"mean": acceptance}},
    )
    return figures(scenario, simulate(scenario))


@pytest.mark.parametrize(("window", "draft_ms"), [(2, 5.0), (4, 3.0), (4, 8.0)])
def test_drafts_from_elsewhere_raise_capacity_as_the_formula_says(
    window: int, draft_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Capacity is 1 + γ·t_d/t_v times that of a verifier which drafts itself (arXiv 2606.25091)."""
    monkeypatch.setattr(Steering, "own_window", lambda *_: MAX_WINDOW)  # equal drafts: none is narrower than asked for
    far, near = (saturated(way, window=window, draft_ms=draft_ms) for way in ("distributed", "co-located"))
    assert min(far["utilisation"], near["utilisation"]) > 0.999
    assert far["tokens_per_s"] / near["tokens_per_s"] == pytest.approx(1 + window * draft_ms / 30, rel=0.02)


def test_more_acceptance_raises_what_a_busy_verifier_serves() -> None:
    rates = [saturated("distributed", acceptance)["tokens_per_s"] for acceptance in (0.0, 0.2, 0.5, 0.8, 0.95, 1.0)]
    assert all(less < more for less, more in pairwise(rates))
    # 8 rows to a step of 30 ms, each of τ tokens: from 1 to γ + 1
    assert rates[0] == pytest.approx(8 / 0.03, rel=0.02)
    assert rates[-1] == pytest.approx(5 * 8 / 0.03, rel=0.02)
