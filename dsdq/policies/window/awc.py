"""``awc``: the learned controller of DSD (arXiv 2511.21669), a small network that foretells the best window.

Inputs: target queue utilisation, recent acceptance, link round trip, recent time per token, previous window. Network:
a residual MLP of two blocks, in numpy. Its prediction is clamped to 1..12, smoothed (the new one weighs 0.4: the paper
leaves open which side does) and rounded. Predictions of at most 1 for two rounds in a row fuse: the verifier goes on
alone, by decoding (``awc``) or with its own drafter (``awc:co-located``); two above 1 end that.

Weights are trained by the simulator. Until there are some, the policy refuses to be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dsdq.errors import ConfigError
from dsdq.policies.window.protocol import Choice, Mode, Observation, Offer

WEIGHTS = Path(__file__).with_name("awc.safetensors")
NARROWEST, WIDEST = 1, 12
NEW_WEIGHS = 0.4
FUSES_AT = 1.0
ROUNDS_TO_FUSE = 2
FEATURES = ("queue_utilisation", "acceptance", "rtt_ms", "tpot_ms", "window")
BLOCKS = 2
_RECENT = 0.2
_BUDGET = 32

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Network:
    """A residual MLP ``[5] -> window``; weights are ``[outputs, inputs]``, float32, named as in the file.

    ``x = (features - mean) / scale``, ``h = silu(enter·x)``, twice ``h += leave·silu(first·h)``, ``window = out·h``;
    each product has a bias.
    """

    weights: dict[str, Floats]

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Network:
        """Read trained weights.

        Raises:
            ConfigError: there are none, or they are not of this network.
        """
        if not path.is_file():
            msg = (
                f"window policy awc: expected trained weights in {path.name}, found none: it is untrained; "
                "choose another policy (optimal) until it has been trained"
            )
            raise ConfigError(msg)
        try:
            weights = {name: np.asarray(value, dtype=np.float32) for name, value in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            msg = f"window policy awc: expected a safetensors file, {path.name} is none ({error})"
            raise ConfigError(msg) from error
        return cls.checked(weights)

    @classmethod
    def checked(cls, weights: dict[str, Floats]) -> Network:
        """Return the network of these weights.

        Raises:
            ConfigError: names or shapes are not those of this network.
        """
        width = len(weights["enter.bias"]) if "enter.bias" in weights else 0
        for name, shape in _shapes(width).items():
            came = weights[name].shape if name in weights else None
            if came != shape or not width:
                msg = f"window policy awc: expected weights {name} of shape {shape}, got {came}; train it again"
                raise ConfigError(msg)
        return cls(weights)

    def predict(self, features: Floats) -> float:
        """Return the best window for ``features`` ``[5]``; at most 1 where drafting does not pay."""
        weights = self.weights
        hidden = _silu(
            weights["enter.weight"] @ ((features - weights["mean"]) / weights["scale"]) + weights["enter.bias"]
        )
        for block in range(BLOCKS):
            inner = _silu(weights[f"{block}.first.weight"] @ hidden + weights[f"{block}.first.bias"])
            hidden = hidden + weights[f"{block}.leave.weight"] @ inner + weights[f"{block}.leave.bias"]
        return float((weights["out.weight"] @ hidden + weights["out.bias"])[0])


class Awc:
    """See the module. Its state belongs to one drafter and one target, as the paper asks."""

    uses_confidence, uses_guesses = False, True

    def __init__(self, network: Network, offer: Offer, fused: Mode = Mode.TARGET_ONLY) -> None:
        self._network, self._offer = network, offer
        self._fused_mode = fused
        self._smooth = float(min(4, offer.max_window))
        self._fused, self._against = False, 0
        self._acceptance, self._rtt_ms, self._tpot_ms, self._utilisation = 0.7, 0.0, 0.0, 0.0
        self._last_ms: float | None = None

    def observe(self, observation: Observation) -> None:
        """Take in a verdict; predict."""
        self._measure(observation)
        features = (self._utilisation, self._acceptance, self._rtt_ms, self._tpot_ms, self._smooth)
        predicted = self._network.predict(np.asarray(features, dtype=np.float32))
        clamped = min(max(predicted, NARROWEST), WIDEST)
        self._smooth += NEW_WEIGHS * (clamped - self._smooth)
        self._against = self._against + 1 if (predicted <= FUSES_AT) is not self._fused else 0
        if self._against >= ROUNDS_TO_FUSE and self._fused_mode in self._offer.modes:
            self._fused, self._against = not self._fused, 0

    def choose(self) -> Choice:
        """Return the smoothed window, or a grant while fused."""
        window = max(1, min(round(self._smooth), self._offer.max_window))
        if not self._fused:
            return Choice(window)
        return Choice(window if self._fused_mode is Mode.COLOCATED else 0, 1, self._fused_mode, _BUDGET)

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        """Draft the whole window."""
        return True

    def _measure(self, seen: Observation) -> None:
        """Keep what the network looks at, lately."""
        trials, hits = (
            (seen.drafted, seen.accepted) if seen.mode is Mode.SPECULATE else (seen.guessed, seen.guessed_right)
        )
        if trials:
            self._acceptance += _RECENT * (hits / trials - self._acceptance)
        if not seen.part:
            network_ms = max(0.0, seen.round_trip_ms - seen.queue_ms - seen.verify_ms)
            self._rtt_ms += (network_ms - self._rtt_ms) * (_RECENT if self._rtt_ms else 1.0)
            busy_ms = seen.queue_ms + seen.verify_ms
            self._utilisation += _RECENT * ((seen.queue_ms / busy_ms if busy_ms else 0.0) - self._utilisation)
        if self._last_ms is not None and seen.committed:
            tpot_ms = (seen.time_ms - self._last_ms) / seen.committed
            self._tpot_ms += (tpot_ms - self._tpot_ms) * (_RECENT if self._tpot_ms else 1.0)
        self._last_ms = seen.time_ms


def _silu(values: Floats) -> Floats:
    result: Floats = values / (1 + np.exp(-values))
    return result


def _shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight."""
    inputs = len(FEATURES)
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (inputs,),
        "scale": (inputs,),
        "enter.weight": (width, inputs),
        "enter.bias": (width,),
        "out.weight": (1, width),
        "out.bias": (1,),
    }
    for block in range(BLOCKS):
        for layer in ("first", "leave"):
            shapes[f"{block}.{layer}.weight"] = (width, width)
            shapes[f"{block}.{layer}.bias"] = (width,)
    return shapes
