"""What texts that ran live tell of a drafter: how often it is right. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dsdq.policies.window import Mode
from dsdq.sim.observed import Observed
from dsdq.sim.scenario.workload import Acceptance

LEAST_TRIALS = 30
"""Guesses behind a wrong one that it takes to tell their acceptance from that of the others."""

CLEAR = 3.0
"""Standard errors by which it has to differ then."""

WIDEST = 0.49


@dataclass(slots=True)
class Trials:
    """Guesses that met the target, and how many of them were right."""

    tried: int = 0
    right: int = 0

    @property
    def share(self) -> float:
        """Return the share that was right."""
        return self.right / self.tried


def acceptance_of(texts: Sequence[Observed], mode: Mode) -> Acceptance | None:
    """Return how often a mode's drafts were right; None where none met the target.

    Only guesses behind right ones count, and the first wrong one behind them: what comes after a mistake is a guess of
    another text. So the mean is the likeliest one (each a coin with the same chance). A text that ran under several
    policies counts once: a guess is right or wrong by its place.
    """
    behind_wrong, behind_right = Trials(), Trials()
    by_text = list[Trials]()
    for known in guesses_of(texts, mode).values():
        mine = Trials()
        for place, right in known.items():
            for trials in (mine, behind_right if known.get(place - 1, True) else behind_wrong):
                trials.tried += 1
                trials.right += right
        by_text.append(mine)
    if not by_text:
        return None
    pooled = Trials(sum(one.tried for one in by_text), sum(one.right for one in by_text))
    between = spread(by_text, pooled.share)
    if _differs(behind_wrong, behind_right):
        return Acceptance(mean=behind_right.share, first=behind_wrong.share, between=between)
    return Acceptance(mean=pooled.share, between=between)


def names_of(texts: Sequence[Observed]) -> list[str]:
    """Return a name for each run of a text; those of the same text have one in common."""
    return [f"alone {number}" if one.text is None else str(one.text) for number, one in enumerate(texts)]


def guesses_of(texts: Sequence[Observed], mode: Mode) -> dict[str, dict[int, bool]]:
    """Return by texts' names which of a mode's guesses were right, by place, as far as any run of a text shows.

    Texts of which nothing is known are left out.
    """
    found = defaultdict[str, dict[int, bool]](dict)
    for name, text in zip(names_of(texts), texts, strict=True):
        known = found[name]
        place = 0
        for answer in text.answers:
            for kind in answer.kinds:
                if answer.mode is mode and kind in "ac":
                    known[place] = kind == "a"
                place += 1
    return {name: known for name, known in found.items() if known}


def spread(by_text: Sequence[Trials], mean: float) -> float:
    """Return the standard deviation of α from text to text, beyond what the luck of the coins explains."""
    if len(by_text) < 2:
        return 0.0
    seen = sum((one.share - mean) ** 2 for one in by_text) / (len(by_text) - 1)
    luck = sum(mean * (1 - mean) / one.tried for one in by_text) / len(by_text)
    return min(math.sqrt(max(seen - luck, 0.0)), WIDEST)


def _differs(one: Trials, other: Trials) -> bool:
    """Say whether two shares differ by more than luck."""
    if min(one.tried, other.tried) < LEAST_TRIALS:
        return False
    pooled = (one.right + other.right) / (one.tried + other.tried)
    error = math.sqrt(pooled * (1 - pooled) * (1 / one.tried + 1 / other.tried))
    return abs(one.share - other.share) > CLEAR * error
