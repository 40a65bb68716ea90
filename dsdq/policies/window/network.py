"""A residual MLP in numpy, as devices run it: no torch. The layout of its weights is what training writes.

``x = (features - mean) / scale``, ``h = silu(enter·x)``, twice ``h += leave·silu(first·h)``, ``out·h``; each product
has a bias. Two blocks and a smooth activation are the WC-DNN of DSD (arXiv 2511.21669).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dsdq.errors import ConfigError

BLOCKS = 2

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Network:
    """``[inputs] -> [outputs]``; weights are ``[outputs, inputs]``, float32, named as in the file."""

    weights: dict[str, Floats]

    @classmethod
    def load(cls, path: Path, inputs: int, outputs: int) -> Network:
        """Read trained weights. The file's are kept: every session makes a policy, and all share one network.

        Raises:
            ConfigError: there are none, or they are not of this network.
        """
        return _loaded(path, inputs, outputs)

    @classmethod
    def checked(cls, weights: dict[str, Floats], inputs: int, outputs: int) -> Network:
        """Return the network of these weights.

        Raises:
            ConfigError: names or shapes are not those of this network.
        """
        width = len(weights["enter.bias"]) if "enter.bias" in weights else 0
        for name, shape in shapes(inputs, width, outputs).items():
            came = weights[name].shape if name in weights else None
            if came != shape or not width:
                msg = f"window policy awc: expected weights {name} of shape {shape}, got {came}; train it again"
                raise ConfigError(msg)
        return cls(weights)

    def predict(self, features: Floats) -> Floats:
        """Return what it says to ``features``."""
        weights = self.weights
        hidden = _silu(
            weights["enter.weight"] @ ((features - weights["mean"]) / weights["scale"]) + weights["enter.bias"]
        )
        for block in range(BLOCKS):
            inner = _silu(weights[f"{block}.first.weight"] @ hidden + weights[f"{block}.first.bias"])
            hidden = hidden + weights[f"{block}.leave.weight"] @ inner + weights[f"{block}.leave.bias"]
        result: Floats = weights["out.weight"] @ hidden + weights["out.bias"]
        return result


@lru_cache(maxsize=4)
def _loaded(path: Path, inputs: int, outputs: int) -> Network:
    if not path.is_file():
        msg = (
            f"window policy awc: expected trained weights in {path.name}, found none: it is untrained; "
            "choose another policy (optimal) until it has been trained (dsdq sim awc-train)"
        )
        raise ConfigError(msg)
    try:
        weights = {name: np.asarray(value, dtype=np.float32) for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        msg = f"window policy awc: expected a safetensors file, {path.name} is none ({error})"
        raise ConfigError(msg) from error
    return Network.checked(weights, inputs, outputs)


def _silu(values: Floats) -> Floats:
    """Return ``x·σ(x)``, by the tangent: it does not overflow."""
    result: Floats = values * (0.5 + 0.5 * np.tanh(0.5 * values))
    return result


def shapes(inputs: int, width: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight."""
    every: dict[str, tuple[int, ...]] = {
        "mean": (inputs,),
        "scale": (inputs,),
        "enter.weight": (width, inputs),
        "enter.bias": (width,),
        "out.weight": (outputs, width),
        "out.bias": (outputs,),
    }
    for block in range(BLOCKS):
        for layer in ("first", "leave"):
            every[f"{block}.{layer}.weight"] = (width, width)
            every[f"{block}.{layer}.bias"] = (width,)
    return every
