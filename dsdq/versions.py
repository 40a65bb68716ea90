"""Which versions of the protocol are spoken here, and which one two sides agree on. Pure.

A release speaks its own version and the one before. A session keeps the version that it was opened with: whoever takes
it over must speak that one. So verifiers are replaced one by one, while devices open with what all of them speak.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

NEWEST = 1
SPOKEN: tuple[int, ...] = (1,)


def agreed(others: Iterable[Collection[int]]) -> int | None:
    """Return the newest version that is spoken here and by all ``others``; None if there is none."""
    common = set(SPOKEN).intersection(*others)
    return max(common, default=None)
