"""``optimal``: the window, depth and mode of which most committed tokens per second are expected.

Rates are those of :mod:`dsdq.policies.window.rates`, at the speeds that :mod:`dsdq.policies.window.estimates` has of
acceptance, draft time, network, queue and passes. When another mode is taken or tried, says
:mod:`dsdq.policies.window.exploring`.
"""

from __future__ import annotations

from dsdq.policies.window import rates
from dsdq.policies.window.exploring import Explorer, View, stream
from dsdq.policies.window.planner import DraftPlanner, Plan, windows_within
from dsdq.policies.window.protocol import Mode, Offer


class Optimal(Explorer):
    """See the module."""

    def __init__(self, offer: Offer) -> None:
        super().__init__(offer, Formulas(offer), Formulas(offer))


class Formulas:
    """Rates by the formulas."""

    def __init__(self, offer: Offer) -> None:
        self._drafting = DraftPlanner(offer.max_depth)
        self._own_windows = windows_within(offer.max_window)  # the verifier knows how wide it can draft itself

    def plans(self, view: View) -> dict[Mode, Plan]:
        """Return the best way to work in each mode."""
        plans, known, speeds = {}, view.known, view.speeds
        if Mode.SPECULATE in view.modes:
            plans[Mode.SPECULATE] = self._drafting.plan(speeds, view.widest)
        if Mode.TARGET_ONLY in view.modes:
            rate = rates.target_only_rate(known.alone_speeds())
            plans[Mode.TARGET_ONLY] = stream(Mode.TARGET_ONLY, 0, rate, speeds)
        if Mode.COLOCATED in view.modes and known.seen[Mode.COLOCATED]:
            acceptance, first = view.server
            found = rates.colocated_rates(known.own_speeds(), acceptance, 0.0, self._own_windows, first)
            best = int(found.argmax())
            plans[Mode.COLOCATED] = stream(Mode.COLOCATED, int(self._own_windows[best]), float(found[best]), speeds)
        return plans
