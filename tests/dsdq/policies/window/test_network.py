from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from safetensors.numpy import save_file

from dsdq.errors import ConfigError
from dsdq.policies.window import awc
from dsdq.policies.window.network import Network, shapes
from dsdq.policies.window.ways import FEATURES

INPUTS, OUTPUTS = 5, 3


def zeros(width: int = 8) -> dict[str, np.ndarray]:
    """Weights of a network that says its output bias whatever it sees."""
    every = shapes(INPUTS, width, OUTPUTS).items()
    return {name: np.full(shape, name == "scale", dtype=np.float32) for name, shape in every}


def test_without_weights_it_says_that_it_is_untrained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="untrained"):
        Network.load(tmp_path / "awc.safetensors", INPUTS, OUTPUTS)


def test_weights_come_from_a_file_and_are_read_once(tmp_path: Path) -> None:
    path = tmp_path / "awc.safetensors"
    save_file({**zeros(), "out.bias": np.asarray([7, 8, 9], np.float32)}, path)
    network = Network.load(path, INPUTS, OUTPUTS)
    assert network.predict(np.zeros(INPUTS, np.float32)).tolist() == [7, 8, 9]
    assert Network.load(path, INPUTS, OUTPUTS) is network


def test_a_file_that_is_not_of_this_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="expected a safetensors file"):
        Network.load(path, INPUTS, OUTPUTS)
    with pytest.raises(ConfigError, match=r"out.weight of shape \(3, 8\), got \(2, 8\)"):
        Network.checked({**zeros(), "out.weight": np.zeros((2, 8), np.float32)}, INPUTS, OUTPUTS)
    with pytest.raises(ConfigError, match="expected weights"):
        Network.checked({"mean": np.zeros(5, np.float32)}, INPUTS, OUTPUTS)


def test_its_blocks_are_residual_with_a_smooth_activation() -> None:
    weights = zeros(1)
    weights["enter.weight"][0, 1] = 2.0
    weights["mean"][1], weights["scale"][1] = 0.5, 0.25
    weights["out.weight"][2, 0] = 1.0
    weights["0.first.weight"][0, 0], weights["0.leave.weight"][0, 0] = 1.0, 3.0

    def silu(value: float) -> float:
        return value / (1 + math.exp(-value))

    hidden = silu(2 * (0.75 - 0.5) / 0.25)
    said = Network.checked(weights, INPUTS, OUTPUTS).predict(np.asarray([0, 0.75, 0, 0, 0], np.float32))
    assert said == pytest.approx([0, 0, hidden + 3 * silu(hidden)], rel=1e-5)


def test_it_does_not_overflow() -> None:
    weights = zeros()
    weights["enter.weight"][:] = 1e4
    weights["out.weight"][:] = 1.0
    assert Network.checked(weights, INPUTS, OUTPUTS).predict(-np.ones(INPUTS, np.float32)).tolist() == [0, 0, 0]


def test_what_the_shipped_network_says_takes_less_than_fifty_microseconds() -> None:
    network, features = awc.trained(), np.ones(len(FEATURES), np.float32)
    taken = []
    for _ in range(1000):
        began = perf_counter()
        network.predict(features)
        taken.append(perf_counter() - began)
    assert min(taken) < 50e-6  # what others take of the machine is not the network's


def test_a_device_needs_no_torch() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from dsdq.policies.window import Mode, Offer, load_policy\n"
        "for spec in ('awc', 'awc:paper'): print(load_policy(spec, Offer(32, 4, frozenset(Mode))).choose().mode)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["co-located", "speculate"]
