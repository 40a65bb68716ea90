"""``awc``: a small network, trained by the simulator, corrects what formulas foretell of each way to work.

Of DSD's controller (arXiv 2511.21669) it keeps the network (a residual MLP of two blocks, smooth activation, L1 loss)
and that it is trained on simulated scenarios. What differs:

- It foretells the rate of every window, every depth and every mode, not one window: so it knows what a change would
  gain, and knows of windows in flight and of streams. The paper's clamp at 12 is 32 here.
- The formulas of :mod:`dsdq.policies.window.rates`, which are ``optimal``'s, are there to begin with. They know of one
  session only; what else a way comes to when all devices of a busy verifier take it, the network has learned.
- It sees what :mod:`dsdq.policies.window.estimates` knows, in place of smoothed values: acceptance behind a right and
  behind a wrong guess, draft time, network, queue, passes, and how many sessions share them.
- It begins with a stream. What it does not see later it tries (:mod:`dsdq.policies.window.exploring`).

``awc:paper`` is the paper's own (:mod:`dsdq.policies.window.awc_paper`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from pathlib import Path

from dsdq.policies.window.every import Every
from dsdq.policies.window.exploring import Explorer, View, stream, verifier_decides
from dsdq.policies.window.network import Network
from dsdq.policies.window.planner import Plan
from dsdq.policies.window.protocol import Choice, Mode, Offer
from dsdq.policies.window.ways import (
    ALONE,
    BASIS,
    CORRECTIONS,
    DEPTHS,
    DRAFTED,
    FEATURES,
    OWN,
    OWN_WINDOWS,
    WINDOWS,
    seen,
)

WEIGHTS = Path(__file__).with_name("awc.safetensors")
_FIRST_WINDOW, _FIRST_OWN_WINDOWS = 8, (2, 6)
_FIRST_TOKENS = 16


def trained(path: Path = WEIGHTS) -> Network:
    """Return the network that is shipped, or another.

    Raises:
        ConfigError: there is none, or it is none of these.
    """
    return Network.load(path, len(FEATURES), len(CORRECTIONS))


def beginning(offer: Offer) -> list[Choice]:
    """Return what to begin with: a stream, of the verifier's drafter if it has one.

    A stream takes one round trip however far the verifier is, shows how far that is and what passes take, and the
    device's guesses along with it show what its drafter is worth. Two windows in turn tell apart what a pass takes and
    what a token of the verifier's drafter does.
    """
    if Mode.COLOCATED in offer.modes:
        windows = dict.fromkeys(min(window, offer.max_window) for window in _FIRST_OWN_WINDOWS)
        return [Choice(window, 1, Mode.COLOCATED, _FIRST_TOKENS) for window in windows]
    if Mode.TARGET_ONLY in offer.modes:
        return [Choice(0, 1, Mode.TARGET_ONLY, _FIRST_TOKENS)]
    return [Choice(min(_FIRST_WINDOW, offer.max_window))]


class Awc(Explorer):
    """See the module."""

    def __init__(self, network: Network, offer: Offer) -> None:
        super().__init__(offer, Learned(network, offer), Learned(network, offer), beginning(offer))


class Learned:
    """Rates by the formulas, corrected by a network."""

    def __init__(self, network: Network, offer: Offer) -> None:
        windows, self._depths = bisect_right(WINDOWS, offer.max_window), min(offer.max_depth, len(DEPTHS))
        self._offer, self._network, self._formulas = offer, network, Every(windows, self._depths)
        self._own = bisect_right(OWN_WINDOWS, offer.max_window)

    def plans(self, view: View) -> dict[Mode, Plan]:
        """Return the best way to work in each mode."""
        formulas = self._formulas.logs(view)
        logs = formulas + BASIS @ self._network.predict(seen(view, formulas))
        plans = {}
        if Mode.SPECULATE in view.modes:
            drafting = logs[:DRAFTED].reshape(len(WINDOWS), len(DEPTHS))
            offered = drafting[: bisect_right(WINDOWS, view.widest), : self._depths]
            window, depth = divmod(int(offered.argmax()), self._depths)
            choice = Choice(WINDOWS[window], DEPTHS[depth])
            plans[Mode.SPECULATE] = Plan(choice, math.exp(offered[window, depth]))
        if Mode.TARGET_ONLY in view.modes and not verifier_decides(self._offer, view.known):
            plans[Mode.TARGET_ONLY] = stream(Mode.TARGET_ONLY, 0, math.exp(logs[ALONE]), view.speeds)
        if Mode.COLOCATED in view.modes and view.known.seen[Mode.COLOCATED]:
            own = logs[OWN : OWN + self._own]
            best = int(own.argmax())
            window, log, drafted = OWN_WINDOWS[best], own[best], None
            if verifier_decides(self._offer, view.known):
                drafted = view.known.shared_window(window)
                cut = own[bisect_left(OWN_WINDOWS[: self._own - 1], round(drafted))]
                window, log = OWN_WINDOWS[self._own - 1], max(cut, logs[ALONE])
            plans[Mode.COLOCATED] = stream(Mode.COLOCATED, window, math.exp(log), view.speeds, drafted)
        return plans
