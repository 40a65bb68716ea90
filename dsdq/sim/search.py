"""Where something begins to hold: the least of ordered places for which it does. Pure."""

from __future__ import annotations

from collections.abc import Callable

Holds = Callable[[int], bool]
"""Says of a place whether it holds there; it is taken to hold at all above one for which it does."""


def least(holds: Holds, low: int, high: int) -> int | None:
    """Return the least place from ``low`` to ``high`` where it holds, by halving; None where not even at ``high``."""
    if not holds(high):
        return None
    if low == high or holds(low):
        return low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def least_by_doubling(holds: Holds, begin: int, most: int) -> int | None:
    """Return the least place from 1 to ``most``, searched from a first guess: far from it, asking costs most."""
    if holds(begin):
        return least(holds, 1, begin)
    while begin < most:
        low, begin = begin, min(2 * begin, most)
        if holds(begin):
            return least(holds, low, begin)
    return None
