"""``optimal``: the window, depth and mode of which most committed tokens per second are expected.

Rates are those of :mod:`dsdq.policies.window.rates`, at the speeds that :mod:`dsdq.policies.window.estimates` has of
acceptance, draft time, network, queue and passes. Every drafter on offer is tried once at the beginning, the verifier's
until the next grant can be there; when another mode is taken or tried later, says
:mod:`dsdq.policies.window.exploring`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dsdq.policies.window import rates
from dsdq.policies.window.exploring import ROUND_TRIPS, TRIAL_TOKENS, Explorer, View, stream, verifier_decides
from dsdq.policies.window.planner import DraftPlanner, Plan, windows_within
from dsdq.policies.window.protocol import Choice, Mode, Offer

_FIRST_WINDOW = {Mode.SPECULATE: 8, Mode.TARGET_ONLY: 0, Mode.COLOCATED: 4}
_LASTING_TOKENS = 64


class Optimal(Explorer):
    """See the module."""

    def __init__(self, offer: Offer) -> None:
        super().__init__(offer, Formulas(offer), Formulas(offer), _beginning(offer))
        self._own_windows = windows_within(offer.max_window)

    def opening(self, choice: Choice) -> Choice:
        """Return the first choice of a verifier's drafter as if it were the device's, its grant lasting a round trip.

        A grant that ends sooner would only make the stream pause before what it showed is made use of.
        """
        known = self._known
        if choice.mode is not Mode.COLOCATED or known.seen[Mode.COLOCATED] or not known.draft_ms.count:
            return choice
        speeds, windows = known.own_speeds(), self._own_windows
        found = rates.colocated_rates(speeds, speeds.acceptance, 0.0, windows, speeds.first)
        best = int(found.argmax())
        lasting = int(ROUND_TRIPS * float(found[best]) * speeds.network_ms / 1000)
        return replace(choice, window=min(int(windows[best]), 8), budget=max(choice.budget, lasting))


class Formulas:
    """Rates by the formulas."""

    def __init__(self, offer: Offer) -> None:
        self._offer, self._drafting = offer, DraftPlanner(offer.max_depth)
        self._own_windows = windows_within(offer.max_window)  # the verifier knows how wide it can draft itself

    def plans(self, view: View) -> dict[Mode, Plan]:
        """Return the best way to work in each mode."""
        plans, known, speeds = {}, view.known, view.speeds
        if Mode.SPECULATE in view.modes:
            plans[Mode.SPECULATE] = self._drafting.plan(speeds, view.widest)
        if Mode.TARGET_ONLY in view.modes and not verifier_decides(self._offer, known):
            rate = rates.target_only_rate(speeds)
            plans[Mode.TARGET_ONLY] = stream(Mode.TARGET_ONLY, 0, rate, speeds)
        if Mode.COLOCATED in view.modes and known.seen[Mode.COLOCATED]:
            acceptance, first = view.server
            found = rates.colocated_rates(known.own_speeds(), acceptance, 0.0, self._own_windows, first)
            best = int(found.argmax())
            window, rate, drafted = int(self._own_windows[best]), float(found[best]), None
            if verifier_decides(self._offer, known):
                drafted = known.shared_window(window)
                cut = rates.colocated_rates(known.own_speeds(), acceptance, 0.0, np.asarray([drafted]), first)[0]
                window, rate = int(self._own_windows[-1]), max(float(cut), rates.target_only_rate(speeds))
            plans[Mode.COLOCATED] = stream(Mode.COLOCATED, window, rate, speeds, drafted)
        return plans


def _beginning(offer: Offer) -> list[Choice]:
    """Return the modes to begin with; what target-only comes to is known from any other's passes."""
    untried = [mode for mode in Mode if mode in offer.modes]
    if len(untried) > 1 and Mode.TARGET_ONLY in untried:
        untried.remove(Mode.TARGET_ONLY)
    return [_first(mode, offer) for mode in untried]


def _first(mode: Mode, offer: Offer) -> Choice:
    window = min(_FIRST_WINDOW[mode], offer.max_window)
    if Mode.SPECULATE not in offer.modes:  # what nobody drafting comes to is seen in any pass
        return Choice(window, 1, mode, _LASTING_TOKENS)
    return Choice(window, 1, mode, TRIAL_TOKENS.get(mode, 0))
