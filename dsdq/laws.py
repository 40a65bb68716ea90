"""The law a drafter sampled from, as it is reported under the rejection rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_SUPPORT = 64


@dataclass(frozen=True, slots=True, eq=False)
class DraftLaw:
    """One exact rational law per drafted position: ``q(ids[i, j]) = weights[i, j] / sum(weights[i])``.

    ``ids`` is uint32 [window, support], ``weights`` uint16 [window, support]; a weight of 0 marks an unused place.
    Integers travel without rounding, so the law reported is the law sampled.
    """

    ids: NDArray[np.uint32]
    weights: NDArray[np.uint16]

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        if not isinstance(other, DraftLaw):
            return NotImplemented
        return np.array_equal(self.ids, other.ids) and np.array_equal(self.weights, other.weights)

    __hash__ = None  # type: ignore[assignment]

    def tail(self, skipped: int) -> DraftLaw:
        """Return the laws of the positions after the first ``skipped``."""
        return DraftLaw(self.ids[skipped:], self.weights[skipped:])
