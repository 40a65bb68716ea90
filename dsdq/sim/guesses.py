"""Which of a text's tokens a drafter would guess right, given the text before them.

Under the coupled rule a guess is right or wrong whatever the windows are that it comes in: the device samples with the
noise of the place. So a text has one answer for each place, drawn once (or recorded live), and any policy is judged by
it. Rounds of independent guesses commit ``(1 - α^(γ+1)) / (1 - α)`` tokens on average (arXiv 2211.17192).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dsdq.sim.scenario.workload import Acceptance

MARGIN = 64
"""Places behind a text's end for which there are guesses too: a device drafts on before it knows of the end."""

_LOWEST, _HIGHEST = 0.001, 0.999

Floats = NDArray[np.float64]


class Guesses(Protocol):
    """A drafter's guesses of one text."""

    def run(self, base: int, most: int, place: int = 0) -> int:
        """Return how many tokens from position ``base`` on are right in turn, at most so many.

        The first of them is the draft's token number ``place``, from 0.
        """
        ...

    def confidences(self, base: int, most: int) -> Sequence[float]:
        """Return the drafter's probability of each of the next so many tokens; none where it gives none."""
        ...


class Fixed:
    """Guesses that are right or wrong by their position alone: ``wrong`` are the wrong ones, rising.

    What lies behind the last wrong one is right up to ``length`` and wrong there.
    """

    __slots__ = ("_confidences", "_wrong")

    def __init__(self, wrong: Sequence[int], length: int, confidences: Sequence[float] = ()) -> None:
        self._wrong = [*wrong, length]
        self._confidences = confidences

    def run(self, base: int, most: int, place: int = 0) -> int:  # noqa: ARG002 - one signature for all
        """See :class:`Guesses`."""
        wrong = self._wrong
        at = bisect_left(wrong, base)
        right = wrong[at] - base if at < len(wrong) else 0
        return min(most, right)

    def confidences(self, base: int, most: int) -> Sequence[float]:
        """See :class:`Guesses`."""
        return self._confidences[base : base + most]


class ByPlace:
    """Guesses that are the likelier right the earlier they come in a draft, or the later."""

    __slots__ = ("_luck", "_table")

    def __init__(self, luck: Sequence[float], table: Sequence[float]) -> None:
        self._luck, self._table = luck, table

    def run(self, base: int, most: int, place: int = 0) -> int:
        """See :class:`Guesses`."""
        luck, table, last = self._luck, self._table, len(self._table) - 1
        most = min(most, len(luck) - base)
        for number in range(most):
            if luck[base + number] >= table[min(place + number, last)]:
                return number
        return max(most, 0)

    def confidences(self, base: int, most: int) -> Sequence[float]:  # noqa: ARG002 - one signature for all
        """Give none: confidences are of places in the text."""
        return ()


def drawn(acceptance: Acceptance, length: int, luck: np.random.Generator) -> Guesses:
    """Return the guesses of a text of ``length`` tokens, by luck: a longer one's begin as a shorter one's do."""
    places, mean = length + MARGIN, acceptance.mean
    if acceptance.between:
        mean = min(max(_beta(acceptance, luck), _LOWEST), _HIGHEST)
    # A place's draws lie beside each other: what is drawn for one does not depend on how many there are.
    draws, told = luck.random((places, 2)).T if acceptance.telling else (luck.random(places), None)
    if acceptance.by_place is not None:
        return ByPlace(draws.tolist(), acceptance.by_place)
    chances: Floats = np.full(places, mean)
    if told is not None:
        chances += acceptance.telling * min(mean, 1 - mean) * (2 * told - 1)
    right = draws < chances if acceptance.first is None else _after_wrong(draws, chances, acceptance.first)
    return Fixed(np.flatnonzero(~right).tolist(), places, chances.tolist() if acceptance.telling else ())


def recorded(right: str, length: int, confidences: Sequence[float] = ()) -> Guesses:
    """Return guesses that a live run has shown, ``1`` and ``0`` by place; a text that is longer repeats them."""
    places = length + MARGIN
    repeated = (right * (places // len(right) + 1))[:places]
    shown = tuple(confidences) * (places // len(confidences) + 1) if confidences else ()
    return Fixed([place for place, one in enumerate(repeated) if one != "1"], places, shown[:places])


def _after_wrong(draws: Floats, chances: Floats, first: float) -> NDArray[np.bool_]:
    """Return what is right where the place behind a wrong guess has another chance."""
    right, before = [], True
    for draw, chance in zip(draws.tolist(), chances.tolist(), strict=True):
        before = draw < (chance if before else first)
        right.append(before)
    return np.asarray(right)


def _beta(acceptance: Acceptance, luck: np.random.Generator) -> float:
    """Draw a text's α from the Beta law of this mean and deviation."""
    mean = min(max(acceptance.mean, _LOWEST), _HIGHEST)
    weight = mean * (1 - mean) / acceptance.between**2 - 1
    if weight <= 0:  # no law is that wide: the two ends
        return float(luck.random() < mean)
    return float(luck.beta(mean * weight, (1 - mean) * weight))
