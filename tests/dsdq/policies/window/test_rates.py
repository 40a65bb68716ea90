from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dsdq.policies.window import rates
from dsdq.policies.window.rates import Speeds

WINDOWS = np.asarray([1.0, 2, 4, 8, 16])
SPEEDS = Speeds(acceptance=0.8, draft_ms=2, network_ms=60, queue_ms=5, step_ms=10, position_ms=0.5)

speeds = st.builds(
    Speeds,
    acceptance=st.floats(0.01, 0.98),
    draft_ms=st.floats(0.05, 20),
    network_ms=st.floats(0, 300),
    queue_ms=st.just(0.0),
    step_ms=st.floats(1, 100),
    position_ms=st.floats(0, 2),
)


@pytest.mark.parametrize(("acceptance", "window", "tokens"), [(0.5, 1, 1.5), (0.5, 3, 1.875), (0.9, 2, 2.71)])
def test_a_round_commits_what_theory_says(acceptance: float, window: float, tokens: float) -> None:
    assert rates.expected_tokens(acceptance, np.asarray([window])) == pytest.approx([tokens])


def test_sequential_is_tokens_of_a_round_over_its_time() -> None:
    found = rates.sequential_rates(SPEEDS, WINDOWS)
    taken_ms = WINDOWS * 2 + 60 + 5 + 10 + 0.5 * (WINDOWS + 1)
    assert found == pytest.approx(1000 * (1 - 0.8 ** (WINDOWS + 1)) / 0.2 / taken_ms)


def test_the_best_window_grows_with_the_network() -> None:
    windows = np.arange(1.0, 33)
    best = []
    for network_ms in (0, 10, 30, 60, 100, 200, 400):
        found = rates.sequential_rates(Speeds(0.8, 2, network_ms, 0, 10, 0.5), windows)
        best.append(int(windows[found.argmax()]))
    assert best == sorted(best)
    assert best[0] < best[-1]


@given(speeds)
@example(Speeds(0.96875, 0.75, 0.0, 0.0, 1.0, 0.0))  # three windows of a token in flight, verdicts in turns of two
def test_no_pipeline_is_faster_than_drafting_without_waiting_allows(one: Speeds) -> None:
    """The bound is 1/(t_d + (1-α)(RTT + t_v)), but that a wrong guess behind a whole window need not be drafted."""
    lanes, depths = np.tile(WINDOWS, 3), np.repeat([2, 3, 4], len(WINDOWS))
    found = rates.pipelined_rates(one, lanes, depths)
    bound = 1000 / (one.acceptance * one.draft_ms + (1 - one.acceptance) * (one.network_ms + one.pass_ms(1)))
    assert np.all(found <= bound * 1.02)


@given(speeds)
def test_more_windows_in_flight_hardly_cost(one: Speeds) -> None:
    """A window that is there earlier may have a pass to itself where it would have shared one."""
    flat = Speeds(one.acceptance, one.draft_ms, one.network_ms, 0, one.step_ms, 0)
    shallow, deep = (rates.pipelined_rates(flat, WINDOWS, np.full(len(WINDOWS), depth)) for depth in (2, 4))
    assert np.all(deep >= shallow * 0.9)


def test_streams_do_not_wait_for_the_network() -> None:
    far = Speeds(0.8, 2, 500, 100, 10, 0.5, stream_ms=0.5)
    assert rates.target_only_rate(far) == pytest.approx(1000 / 11)
    found = rates.colocated_rates(far, 0.5, 1.0, np.asarray([2.0]))
    assert found == pytest.approx([1000 * 1.75 / (2 * 1 + 10 + 3 * 0.5 + 0.5)])
