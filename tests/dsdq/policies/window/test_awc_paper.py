from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dsdq.policies.window import Choice, Mode, Observation, Offer
from dsdq.policies.window.awc_paper import FEATURES, PaperAwc
from dsdq.policies.window.network import Network, shapes

OFFER = Offer(max_window=16, modes=frozenset(Mode))


def always(predicted: float) -> Network:
    """A network that says the same whatever it sees."""
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes(len(FEATURES), 8, 1).items()}
    weights["scale"][:], weights["out.bias"][:] = 1, predicted
    return Network.checked(weights, len(FEATURES), 1)


SEEN = Observation(4, 3, draft_ms=4, round_trip_ms=50, queue_ms=5, verify_ms=15, committed=4, time_ms=54)


@pytest.mark.parametrize(("predicted", "windows"), [(9.0, [6, 7, 8, 8, 9]), (99.0, [7, 9, 10, 11, 11])])
def test_predictions_are_clamped_then_smoothed_then_rounded(predicted: float, windows: list[int]) -> None:
    policy = PaperAwc(always(predicted), OFFER)
    chosen = []
    for _ in windows:
        policy.observe(SEEN)
        chosen.append(policy.choose().window)
    assert chosen == windows


@pytest.mark.parametrize("fused", [Mode.TARGET_ONLY, Mode.COLOCATED])
def test_two_predictions_of_at_most_one_fuse_and_two_above_end_it(fused: Mode) -> None:
    policy = PaperAwc(always(0.5), OFFER, fused)
    policy.observe(SEEN)
    assert policy.choose().mode is Mode.SPECULATE
    policy.observe(SEEN)
    assert policy.choose().mode is fused
    policy._network = always(5.0)
    policy.observe(SEEN)
    assert policy.choose().mode is fused
    policy.observe(SEEN)
    assert policy.choose().mode is Mode.SPECULATE


def test_it_does_not_fuse_into_what_is_not_on_offer() -> None:
    policy = PaperAwc(always(0.0), Offer(16))
    for _ in range(20):
        policy.observe(SEEN)
    assert policy.choose() == Choice(1)


def test_it_feeds_what_the_paper_says() -> None:
    fed: list[np.ndarray] = []

    class Listening(Network):
        def predict(self, features: np.ndarray) -> np.ndarray:
            fed.append(features)
            return np.asarray([4.0], np.float32)

    policy = PaperAwc(Listening({}), OFFER)
    for number in range(1, 60):
        policy.observe(Observation(4, 3, 4, 50, 5, 15, committed=4, time_ms=60.0 * number))
    assert fed[-1] == pytest.approx([0.25, 0.75, 30, 15, 4], rel=0.01)


@pytest.mark.parametrize("pause_ms", [0.0, 60_000.0])
def test_the_time_between_two_texts_is_no_time_of_a_token(pause_ms: float) -> None:
    before, after = PaperAwc(always(5.0), OFFER), PaperAwc(always(5.0), OFFER)
    for number in range(1, 9):
        before.observe(replace(SEEN, time_ms=54.0 * number))
    after.go_on_from(before)
    for number in range(2):
        after.observe(replace(SEEN, time_ms=54.0 * (9 + number) + pause_ms))
    assert after.state.smoothed.features(4)[FEATURES.index("tpot_ms")] == pytest.approx(54 / 4)
