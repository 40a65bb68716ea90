"""What a round commits, and how soon: the simulator against closed formulas."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from scipy import integrate, stats

from dsdq.contract import MAX_WINDOW
from dsdq.policies.steering import Steering
from dsdq.policies.window import rates
from dsdq.sim.dsi import Speeds, course
from dsdq.sim.guesses import Guesses, drawn, recorded
from dsdq.sim.record import Record
from dsdq.sim.run import simulate
from dsdq.sim.scenario.traces import Traces
from dsdq.sim.scenario.workload import Acceptance
from dsdq.sim.streams import Streams
from dsdq.sim.texts import Recording
from tests.dsdq.sim.worlds import enough_targets, record_of, scenario_of, tokens_per_round, tpot_ms

ALPHAS_AND_WINDOWS = [(0.3, 2), (0.5, 4), (0.7, 1), (0.7, 4), (0.8, 8), (0.95, 16)]


def committed_by_round(guesses: Guesses, window: int, length: int) -> list[int]:
    """Return what each round of a text commits."""
    counts, base = [], 0
    while base < length:
        counts.append(guesses.run(base, window) + 1)
        base += counts[-1]
    return counts


def expected_tokens(acceptance: float, window: int) -> float:
    """E[tokens of a round] = (1 - α^(γ+1)) / (1 - α) (arXiv 2211.17192, equation 1)."""
    return float((1 - acceptance ** (window + 1)) / (1 - acceptance))


def rounds_of(acceptance: Acceptance, window: int, length: int = 60_000) -> list[int]:
    return committed_by_round(drawn(acceptance, length, Streams(1).generator("text")), window, length)


@pytest.mark.parametrize(("acceptance", "window"), ALPHAS_AND_WINDOWS)
def test_a_round_commits_as_many_tokens_as_expected(acceptance: float, window: int) -> None:
    mean = np.mean(rounds_of(Acceptance(mean=acceptance), window))
    assert mean == pytest.approx(expected_tokens(acceptance, window), rel=0.01)


@pytest.mark.parametrize(("acceptance", "window"), [(0.5, 4), (0.8, 8)])
def test_so_do_rounds_of_a_whole_simulation(acceptance: float, window: int) -> None:
    record = record_of(
        duration_s=200,
        workload={"output": {"mean": 3000}, "acceptance": {"mean": acceptance}},
        window={"policy": f"static:{window}"},
    )
    assert tokens_per_round(record) == pytest.approx(expected_tokens(acceptance, window), rel=0.015)


@pytest.mark.parametrize(("acceptance", "first", "window"), [(0.9, 0.3, 4), (0.6, 0.9, 3)])
def test_a_first_token_that_is_right_less_often(acceptance: float, first: float, window: int) -> None:
    """The chain of rounds that begin behind a right guess (R) or a wrong one.

    A round of which f is the first token's chance commits 1 + f·(1 - α^γ)/(1 - α). The next begins behind a right guess
    if all stand and the place of the target's own token is guessed: π_R = α·(π_R·α^γ + (1 - π_R)·φ·α^(γ-1)).
    """
    behind_right = first * acceptance**window / (1 - acceptance ** (window + 1) + first * acceptance**window)
    runs = (1 - acceptance**window) / (1 - acceptance)
    expected = 1 + (behind_right * acceptance + (1 - behind_right) * first) * runs
    mean = np.mean(rounds_of(Acceptance(mean=acceptance, first=first), window))
    assert mean == pytest.approx(expected, rel=0.01)


def test_an_acceptance_that_differs_from_text_to_text() -> None:
    """The mean over texts is that over the Beta law of α: ∫ τ(α) dBeta(α)."""
    mean, deviation, window = 0.7, 0.15, 4
    weight = mean * (1 - mean) / deviation**2 - 1
    law = stats.beta(mean * weight, (1 - mean) * weight)
    expected, _ = integrate.quad(lambda alpha: expected_tokens(alpha, window) * law.pdf(alpha), 0, 1)
    acceptance, streams = Acceptance(mean=mean, between=deviation), Streams(1)
    texts = [drawn(acceptance, 300, streams.generator("text", number)) for number in range(2000)]
    means = [np.mean(committed_by_round(text, window, 300)) for text in texts]
    assert np.mean(means) == pytest.approx(expected, rel=0.015)


def test_an_acceptance_by_place() -> None:
    """E = 1 + Σ_n Π_{i<=n} α_i."""
    table, window = (0.9, 0.7, 0.5), 5
    chances = [table[min(place, 2)] for place in range(window)]
    expected = 1 + sum(prod(chances[: place + 1]) for place in range(window))
    assert np.mean(rounds_of(Acceptance(by_place=table), window)) == pytest.approx(expected, rel=0.01)


# Latency of one device that is alone

SPEEDS = rates.Speeds(acceptance=0.8, draft_ms=6, network_ms=41, queue_ms=0, step_ms=20, position_ms=0.5)


def alone(window: int, depth: int = 1, output: int = 20_000) -> Record:
    return record_of(
        duration_s=0.001,
        phone={"draft_ms": 6.0, "link": {"rtt_ms": 40.0}},
        verifiers={"position_ms": 0.5},
        broker={"latency_ms": 0.5},
        window={"policy": f"static:{window}:{depth}"},
        workload={"output": {"mean": output}, "acceptance": {"mean": 0.8}},
    )


@pytest.mark.parametrize("window", [1, 4, 12])
def test_one_window_at_a_time_takes_what_the_formula_says(window: int) -> None:
    """TPOT = (γ·t_d + network + pass(γ+1)) / τ."""
    rate = float(rates.sequential_rates(SPEEDS, np.asarray([window]))[0])
    assert tpot_ms(alone(window)) == pytest.approx(1000 / rate, rel=0.02)


@pytest.mark.parametrize(("window", "depth"), [(2, 2), (3, 4), (8, 2), (12, 3)])
def test_several_windows_in_flight_take_what_the_formula_says(window: int, depth: int) -> None:
    """The rate of a cycle from one rejection to the next (``rates.pipelined_rates``)."""
    rate = float(rates.pipelined_rates(SPEEDS, np.asarray([window]), np.asarray([depth]))[0])
    assert tpot_ms(alone(window, depth)) == pytest.approx(1000 / rate, rel=0.02)


@pytest.mark.parametrize("window", [1, 4])
def test_the_first_token_takes_reading_drafting_the_way_and_a_pass(window: int) -> None:
    record = record_of(
        phone={"draft_ms": 6.0, "prompt_ms": 0.1, "link": {"rtt_ms": 40.0}},
        verifiers={"position_ms": 0.5},
        broker={"latency_ms": 0.5},
        window={"policy": f"static:{window}"},
        workload={"prompt": {"mean": 65}},
    )
    # prompt·read + γ·t_d + RTT + 2·latency + step + (prompt + γ)·position: the prompt goes with its first round
    expected = 65 * 0.1 + window * 6 + 40 + 1 + 20 + (65 + window) * 0.5
    assert record.requests[0].first_ms == pytest.approx(expected)


def test_a_long_prompt_takes_a_pass_for_each_chunk() -> None:
    record = record_of(verifiers={"position_ms": 0.5, "prefill_tokens": 30}, workload={"prompt": {"mean": 100}})
    # 99 tokens before the round: three chunks of 30 while the device drafts, and 9 with the round itself
    assert record.requests[0].first_ms == pytest.approx(3 * (20 + 15) + 20 + (9 + 5) * 0.5)


# Who drafts, and how far

RIGHT = "1101111011010111110111101010111111011011"
RECORDINGS = {"texts": [Recording(RIGHT), Recording(RIGHT[::-1]), Recording("10"), Recording("1" * 9 + "0")]}


def replayed(way: str, rtt_ms: float, window: int) -> list[float]:
    """Return what texts take whose guesses are the same whoever drafts."""
    policy = {"co-located": f"co-located:{window}"}.get(way, f"static:{window}")
    scenario = scenario_of(
        way=way,
        duration_s=20,
        phone={"link": {"rtt_ms": rtt_ms}},
        verifiers={"draft": {"step_ms": 3.0}},
        window={"policy": policy},
        workload={"output": {"mean": 60}, "acceptance": {"trace": "texts"}},
    )
    record = simulate(scenario, traces=Traces(RECORDINGS))
    return [one.ended_ms - one.arrival_ms for one in record.requests[:4]]


@pytest.mark.parametrize("window", [1, 3, 8])
@pytest.mark.parametrize("rtt_ms", [1.0, 10.0, 30.0, 100.0])
def test_drafting_at_the_verifier_is_no_slower_than_at_a_distance_one_window_at_a_time(
    rtt_ms: float, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speculation at a distance loses latency, text by text, whatever the distance is (arXiv 2606.25091)."""
    monkeypatch.setattr(Steering, "own_window", lambda *_: MAX_WINDOW)  # equal drafts: none is narrower than asked for
    pairs = zip(replayed("co-located", rtt_ms, window), replayed("distributed", rtt_ms, window), strict=True)
    assert all(near <= far for near, far in pairs)


def test_the_best_window_never_falls_with_the_distance() -> None:
    """A longer way makes fewer, wider rounds pay (arXiv 2606.20591 has its growth as log(delay))."""
    best = []
    for rtt_ms in (0.0, 10.0, 40.0, 120.0, 400.0):
        took_ms = {
            window: record_of(
                duration_s=0.001,
                phone={"link": {"rtt_ms": rtt_ms}},
                window={"policy": f"static:{window}"},
                workload={"output": {"mean": 3000}, "acceptance": {"mean": 0.8}},
            )
            .requests[0]
            .ended_ms
            for window in (1, 2, 3, 4, 6, 8, 12, 16, 24)
        }
        best.append(min(took_ms, key=lambda window: took_ms[window]))
    assert best == sorted(best)
    assert best[0] < best[-1]


def test_a_node_of_targets_takes_what_the_recurrence_says() -> None:
    scenario = scenario_of(
        way="dsi",
        phone={"link": {"rtt_ms": 30.0}},
        verifiers={"count": 10, "draft": {"step_ms": 3.0}},
        parallel={"targets": 10, "lookahead": 1},
        workload={"acceptance": {"trace": "texts"}},
    )
    first = simulate(scenario, traces=Traces(RECORDINGS)).requests[0]
    guesses = committed_text()
    speeds = Speeds(3.0, lambda _positions, _length: 20.0)
    made = course(guesses, 100, speeds, targets=10, lookahead=1, known_length=False)
    assert enough_targets(3.0, 20.0, 1) <= 10
    assert first.first_ms == pytest.approx(30 + made.first_ms)
    assert first.ended_ms == pytest.approx(30 + made.ended_ms)
    assert first.ended_ms < replayed_e2e("co-located")
    assert first.ended_ms < replayed_e2e("target-only")


def committed_text() -> Guesses:
    return recorded(RIGHT, 100)


def replayed_e2e(way: str) -> float:
    scenario = scenario_of(
        way=way,
        phone={"link": {"rtt_ms": 30.0}},
        verifiers={"draft": {"step_ms": 3.0}},
        window={"policy": "static:4"},
        workload={"acceptance": {"trace": "texts"}},
    )
    return simulate(scenario, traces=Traces(RECORDINGS)).requests[0].ended_ms


def test_speeds_that_are_all_the_same_but_one_move_the_formula() -> None:
    """The comparison above is of use: 5 % of draft time shows in the formula by more than what is allowed for."""
    slower = replace(SPEEDS, draft_ms=1.1 * SPEEDS.draft_ms)
    ratio = rates.sequential_rates(SPEEDS, np.asarray([12])) / rates.sequential_rates(slower, np.asarray([12]))
    assert float(ratio[0]) > 1.04
