"""``awc:paper``: the learned controller of DSD (arXiv 2511.21669), a small network that foretells the best window.

Inputs: target queue utilisation, recent acceptance, link round trip, recent time per token, previous window. Network:
a residual MLP of two blocks, in numpy. Its prediction is clamped to 1..12, smoothed (the new one weighs 0.4: the paper
leaves open which side does) and rounded. Predictions of at most 1 for two rounds in a row fuse: the verifier goes on
alone, by decoding (``awc:paper``) or with its own drafter (``awc:paper:co-located``); two above 1 end that.

Weights are trained by the simulator (``dsdq sim awc-train``), beside those of ``awc``.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from dsdq.policies.window.network import Floats, Network
from dsdq.policies.window.protocol import Choice, Mode, Observation, Offer

WEIGHTS = Path(__file__).with_name("awc-paper.safetensors")
NARROWEST, WIDEST = 1, 12
NEW_WEIGHS = 0.4
FUSES_AT = 1.0
ROUNDS_TO_FUSE = 2
FEATURES = ("queue_utilisation", "acceptance", "rtt_ms", "tpot_ms", "window")
_RECENT = 0.2
_BUDGET = 32


class Smoothed:
    """What the network looks at, lately."""

    def __init__(self) -> None:
        self._acceptance, self._rtt_ms, self._tpot_ms, self._utilisation = 0.7, 0.0, 0.0, 0.0
        self._last_ms: float | None = None

    def features(self, window: float) -> Floats:
        """Return the network's features ``[5]``, the previous window among them."""
        return np.asarray((self._utilisation, self._acceptance, self._rtt_ms, self._tpot_ms, window), dtype=np.float32)

    def pause(self) -> None:
        """Let the time until the next verdict be nobody's: it is another text's."""
        self._last_ms = None

    def observe(self, seen: Observation) -> None:
        """Take in a verdict."""
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


def trained(path: Path = WEIGHTS) -> Network:
    """Return the network that is shipped, or another.

    Raises:
        ConfigError: there is none, or it is none of these.
    """
    return Network.load(path, len(FEATURES), 1)


@dataclass(slots=True)
class _State:
    """The smoothed window, what else is looked at, and for how many rounds predictions spoke against the mode."""

    window: float
    smoothed: Smoothed = field(default_factory=Smoothed)
    fused: bool = False
    against: int = 0


class PaperAwc:
    """See the module. Its state belongs to one drafter and one target, as the paper asks."""

    uses_confidence: ClassVar[bool] = False
    uses_guesses: ClassVar[bool] = True

    def __init__(self, network: Network, offer: Offer, fused: Mode = Mode.TARGET_ONLY) -> None:
        self._network, self._offer = network, offer
        self._fused_mode = fused
        self.state = _State(float(min(4, offer.max_window)))

    def go_on_from(self, before: object) -> None:
        """Begin with the state of the device's text before."""
        if isinstance(before, PaperAwc):
            self.state = deepcopy(before.state)
            self.state.smoothed.pause()

    def observe(self, observation: Observation) -> None:
        """Take in a verdict; predict."""
        state = self.state
        state.smoothed.observe(observation)
        predicted = float(self._network.predict(state.smoothed.features(state.window))[0])
        clamped = min(max(predicted, NARROWEST), WIDEST)
        state.window += NEW_WEIGHS * (clamped - state.window)
        state.against = state.against + 1 if (predicted <= FUSES_AT) is not state.fused else 0
        if state.against >= ROUNDS_TO_FUSE and self._fused_mode in self._offer.modes:
            state.fused, state.against = not state.fused, 0

    def choose(self) -> Choice:
        """Return the smoothed window, or a grant while fused."""
        window = max(1, min(round(self.state.window), self._offer.max_window))
        if not self.state.fused:
            return Choice(window)
        return Choice(window if self._fused_mode is Mode.COLOCATED else 0, 1, self._fused_mode, _BUDGET)

    def wants_more(self, confidence: float, drafted: int) -> bool:  # noqa: ARG002 - one signature for all policies
        """Draft the whole window."""
        return True
