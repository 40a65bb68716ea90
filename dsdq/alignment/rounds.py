"""What rounds come to, from how many draft tokens stand at each place of a text. Pure.

Under the coupled rule a draft changes no text, so all windows can be read off one text: as long as a draft stands, it
continues the target's own words. ``runs[s]`` is how many draft tokens from place s on stand, at most a window's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Position:
    """The n-th token of a window.

    Attributes:
        number: from 1.
        judged: how often all before it stood and the text went so far.
        accepted: how often it stood then.
        survival: the share of windows of which it and all before it stand.
    """

    number: int
    judged: int
    accepted: int
    survival: float

    @property
    def acceptance(self) -> float:
        """Return the share of judged tokens that stood."""
        return self.accepted / self.judged


def runs_of(stands: Sequence[bool], window: int) -> list[int]:
    """Return how many draft tokens from each place on stand, if each place's guess is known to stand or not."""
    runs, run = [0] * len(stands), 0
    for place in reversed(range(len(stands))):
        run = min(run + 1, window) if stands[place] else 0
        runs[place] = run
    return runs


def agreement(guessed: Sequence[int], text: Sequence[int]) -> int:
    """Return how many tokens of a guess stand: those before the first that differs from ``text``."""
    pairs = enumerate(zip(guessed, text, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(guessed), len(text)))


def positions(runs_by_text: Sequence[Sequence[int]], window: int) -> list[Position]:
    """Return what became of each position of a window, as far as there are texts so long that it was ever judged."""
    runs = np.concatenate([np.asarray(runs, dtype=np.int64) for runs in runs_by_text])
    room = np.concatenate([np.arange(len(runs), 0, -1) for runs in runs_by_text])
    found = []
    for number in range(1, window + 1):
        reaches = room >= number
        judged = int((reaches & (runs >= number - 1)).sum())
        if not judged:
            break
        accepted = int((runs >= number).sum())
        found.append(Position(number, judged, accepted, accepted / int(reaches.sum())))
    return found


def tokens_per_round(runs_by_text: Sequence[Sequence[int]], window: int) -> float | None:
    """Return the tokens that a round commits on average when texts are made in rounds of ``window`` draft tokens.

    Rounds follow one another as they really would. One that the end of its text cuts short is left out; None if all
    are.
    """
    committed = rounds = 0
    for runs in runs_by_text:
        place = 0
        while place + window < len(runs):
            step = min(runs[place], window) + 1
            place, committed, rounds = place + step, committed + step, rounds + 1
    return committed / rounds if rounds else None
