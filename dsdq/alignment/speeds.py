"""What a draft is worth at given speeds: the best window at each round trip, and where drafting stops to pay. Pure.

Rates are those of :mod:`dsdq.policies.window.rates`. The break-even is the round trip at which the best of them meets
another way's rate: with one window γ in flight that is ``RTT = τ(γ)·t_other - γ·t_draft - pass(γ + 1)``, with t_other
the other way's time for a token. Pipelined, no RTT above ``t_other / (1 - α)`` can win: each rejection costs one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dsdq.policies.window import rates
from dsdq.policies.window.planner import Plan, best_drafting
from dsdq.policies.window.protocol import Choice, Mode

MOST_ACCEPTANCE = 0.999
"""The rates divide by the share that is rejected: a draft that is always right is taken to fail once in a thousand."""
_HALVINGS = 40
_TRIPS = 128
_GAIN = 1.001  # what is not faster by a thousandth is not faster


@dataclass(frozen=True, slots=True)
class Ways:
    """All ways of making a text with one draft and one target.

    Attributes:
        speeds: acceptance, draft, pass; its ``network_ms`` is not used.
        server_draft_ms: what a draft token takes where the verifier drafts itself with this draft.
        max_window: draft tokens of a window.
        max_depth: windows in flight.
    """

    speeds: rates.Speeds
    server_draft_ms: float
    max_window: int
    max_depth: int

    def sequential(self, rtt_ms: float) -> Plan:
        """Return the best window with one in flight."""
        return best_drafting(self._at(rtt_ms), self._windows(), 1)

    def edge(self, rtt_ms: float) -> Plan:
        """Return the best window and depth for a device."""
        return best_drafting(self._at(rtt_ms), self._windows(), self.max_depth)

    def target_only(self) -> float:
        """Return the tokens per second of a target that decodes alone and streams."""
        return rates.target_only_rate(self._at(0.0))

    def colocated(self) -> Plan:
        """Return the best window for a verifier that drafts itself and streams."""
        windows = self._windows()
        found = rates.colocated_rates(self._at(0.0), self._at(0.0).acceptance, self.server_draft_ms, windows)
        best = int(found.argmax())
        return Plan(Choice(int(windows[best]), 1, Mode.COLOCATED), float(found[best]))

    def break_even_ms(self, edge: Callable[[float], Plan], other: float) -> float:
        """Return the round trip up to which ``edge`` is faster than ``other`` tokens per second; 0 if it never is.

        A pipeline's rate may rise a little with the round trip, where a window just no longer waits for a pass. As a
        device may always hold its messages back, the last place at which it is faster counts.
        """
        most_ms = 1.1 * 1000 / other / (1 - self._at(0.0).acceptance)
        trips = np.linspace(0.0, most_ms, _TRIPS)
        faster = [place for place, trip in enumerate(trips) if edge(trip).rate > _GAIN * other]
        if not faster:
            return 0.0
        least_ms, next_ms = trips[faster[-1]], trips[min(faster[-1] + 1, _TRIPS - 1)]
        return meeting(lambda rtt_ms: edge(rtt_ms).rate, _GAIN * other, float(next_ms), float(least_ms))

    def _at(self, rtt_ms: float) -> rates.Speeds:
        return replace(self.speeds, acceptance=min(self.speeds.acceptance, MOST_ACCEPTANCE), network_ms=rtt_ms)

    def _windows(self) -> rates.Floats:
        return np.arange(1.0, self.max_window + 1)


def meeting(falling: Callable[[float], float], level: float, most: float, least: float = 0.0) -> float:
    """Return where a function that falls from above ``level`` meets it between ``least`` and ``most``, by halving."""
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        if falling(middle) > level:
            least = middle
        else:
            most = middle
    return least


def matching_acceptance(tokens_per_round: float, window: int) -> float:
    """Return the α at which rounds of independent tokens commit so many on average.

    Misses come in clusters, and rounds begin behind a miss: the share of all places at which a draft is right would
    promise too much.
    """
    windows = np.asarray([float(window)])
    return meeting(lambda alpha: -float(rates.expected_tokens(alpha, windows)[0]), -tokens_per_round, MOST_ACCEPTANCE)
