"""How likely committed tokens were to the target, as a verdict reports it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TokenLogprobs:
    """Natural log-probabilities of n tokens and of the likeliest ones in their places.

    They are log-softmax of the target's own logits, before any penalty, bias or processor. ``chosen`` is float32 [n];
    ``top_ids`` uint32 [n, count] and ``top`` float32 [n, count] hold the likeliest ids of each place and theirs, most
    likely first.
    """

    chosen: NDArray[np.float32]
    top_ids: NDArray[np.uint32]
    top: NDArray[np.float32]

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        if not isinstance(other, TokenLogprobs):
            return NotImplemented
        return (
            np.array_equal(self.chosen, other.chosen)
            and np.array_equal(self.top_ids, other.top_ids)
            and np.array_equal(self.top, other.top)
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.chosen)

    def head(self, kept: int) -> TokenLogprobs:
        """Return those of the first ``kept`` tokens."""
        return TokenLogprobs(self.chosen[:kept], self.top_ids[:kept], self.top[:kept])

    def alternatives(self, place: int) -> tuple[tuple[int, float], ...]:
        """Return one place's likeliest (id, log-probability), most likely first."""
        return tuple(zip(self.top_ids[place].tolist(), self.top[place].tolist(), strict=True))
