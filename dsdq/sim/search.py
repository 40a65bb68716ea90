"""Where something begins to hold: the least of ordered places for which it does. Pure.

Three places are looked at in each turn, whoever does it, so that several processes have something to do and the answer
does not depend on how many they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_LOOKED_AT = 3

Holds = Callable[[Sequence[int]], Sequence[bool]]
"""Says of some places whether it holds there; it is taken to hold at all above one for which it does."""


def least(holds: Holds, low: int, high: int) -> int | None:
    """Return the least place from ``low`` to ``high`` where it holds; None where it does not even at ``high``."""
    first, last = holds([low, high]) if low < high else (holds([low])[0],) * 2
    if first:
        return low
    if not last:
        return None
    while high - low > 1:
        width = high - low
        places = sorted({low + max(1, width * part // (_LOOKED_AT + 1)) for part in range(1, _LOOKED_AT + 1)} - {high})
        for place, found in zip(places, holds(places), strict=True):
            if found:
                high = place
                break
            low = place
    return high
