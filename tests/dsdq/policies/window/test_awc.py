from __future__ import annotations

import math
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from safetensors.numpy import save_file

from dsdq.errors import ConfigError
from dsdq.policies.window import Choice, Mode, Observation, Offer
from dsdq.policies.window.awc import BLOCKS, FEATURES, Awc, Network

OFFER = Offer(max_window=16, modes=frozenset(Mode))


def zeros(width: int = 8) -> dict[str, np.ndarray]:
    """Weights of a network that predicts its output bias whatever it sees."""
    inputs = len(FEATURES)
    weights = {
        "mean": np.zeros(inputs),
        "scale": np.ones(inputs),
        "enter.weight": np.zeros((width, inputs)),
        "enter.bias": np.zeros(width),
        "out.weight": np.zeros((1, width)),
        "out.bias": np.zeros(1),
    }
    for block in range(BLOCKS):
        for layer in ("first", "leave"):
            weights[f"{block}.{layer}.weight"] = np.zeros((width, width))
            weights[f"{block}.{layer}.bias"] = np.zeros(width)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def always(predicted: float) -> Network:
    return Network.checked({**zeros(), "out.bias": np.asarray([predicted], np.float32)})


SEEN = Observation(4, 3, draft_ms=4, round_trip_ms=50, queue_ms=5, verify_ms=15, committed=4, time_ms=54)


def test_without_weights_it_says_that_it_is_untrained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="untrained"):
        Network.load(tmp_path / "awc.safetensors")


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    save_file({**zeros(), "out.bias": np.asarray([7], np.float32)}, tmp_path / "awc.safetensors")
    network = Network.load(tmp_path / "awc.safetensors")
    assert network.predict(np.zeros(5, np.float32)) == 7


def test_a_file_that_is_not_of_this_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "awc.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="expected a safetensors file"):
        Network.load(path)
    save_file({**zeros(), "out.weight": np.zeros((2, 8), np.float32)}, path)
    with pytest.raises(ConfigError, match=r"out.weight of shape \(1, 8\), got \(2, 8\)"):
        Network.load(path)
    save_file({"mean": np.zeros(5, np.float32)}, path)
    with pytest.raises(ConfigError, match="expected weights"):
        Network.load(path)


def test_its_blocks_are_residual_with_a_smooth_activation() -> None:
    weights = zeros(1)
    weights["enter.weight"][0, 1] = 2.0  # acceptance
    weights["mean"][1], weights["scale"][1] = 0.5, 0.25
    weights["out.weight"][0, 0] = 1.0
    weights["0.first.weight"][0, 0], weights["0.leave.weight"][0, 0] = 1.0, 3.0

    def silu(value: float) -> float:
        return value / (1 + math.exp(-value))

    hidden = silu(2 * (0.75 - 0.5) / 0.25)
    expected = hidden + 3 * silu(hidden)
    features = np.asarray([0, 0.75, 0, 0, 0], np.float32)
    assert Network.checked(weights).predict(features) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("predicted", "windows"), [(9.0, [6, 7, 8, 8, 9]), (99.0, [7, 9, 10, 11, 11])])
def test_predictions_are_clamped_then_smoothed_then_rounded(predicted: float, windows: list[int]) -> None:
    policy = Awc(always(predicted), OFFER)
    chosen = []
    for _ in windows:
        policy.observe(SEEN)
        chosen.append(policy.choose().window)
    assert chosen == windows


@pytest.mark.parametrize("fused", [Mode.TARGET_ONLY, Mode.COLOCATED])
def test_two_predictions_of_at_most_one_fuse_and_two_above_end_it(fused: Mode) -> None:
    policy = Awc(always(0.5), OFFER, fused)
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
    policy = Awc(always(0.0), Offer(16))
    for _ in range(20):
        policy.observe(SEEN)
    assert policy.choose() == Choice(1)


def test_it_feeds_what_the_paper_says() -> None:
    fed: list[np.ndarray] = []

    class Listening(Network):
        def predict(self, features: np.ndarray) -> float:
            fed.append(features)
            return 4.0

    policy = Awc(Listening(zeros()), OFFER)
    for number in range(1, 60):
        policy.observe(Observation(4, 3, 4, 50, 5, 15, committed=4, time_ms=60.0 * number))
    assert fed[-1] == pytest.approx([0.25, 0.75, 30, 15, 4], rel=0.01)


def test_a_prediction_takes_less_than_fifty_microseconds() -> None:
    rng = np.random.default_rng(1)
    network = Network.checked(
        {name: (rng.standard_normal(value.shape) * 0.1 + 0.01).astype(np.float32) for name, value in zeros(64).items()}
    )
    features = np.ones(5, np.float32)
    taken = []
    for _ in range(500):
        began = perf_counter()
        network.predict(features)
        taken.append(perf_counter() - began)
    assert min(taken) < 50e-6
