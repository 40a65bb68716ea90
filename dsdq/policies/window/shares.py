"""How often a drafter is right: running shares that notice a change. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

_MEMORY_TRIALS = 500.0
"""At an acceptance of 0.9 an error of 0.02 is one of 15 % in a pipeline's rate; yet no text is alike throughout."""

_HIGHEST = 0.98
"""A higher share is not believed: windows would grow without bound."""

_ALIKE = 8.0
"""A draft's first tokens and those behind them are taken to be alike as if so many trials said so."""

_LATELY = (3, 6, 12, 24)
"""Drafts whose results are held against those before them."""

_ENOUGH = 8
_SURPRISING = 21.0
"""Of χ² with two degrees of freedom: one in forty thousand. A false alarm costs all that was known."""

_SURELY_NOT = 500.0
"""Of a logarithm of odds, beyond which its exponential overflows."""

Counts = tuple[float, float]
"""Hits and trials."""


class Share:
    """A probability from trials, older ones counting less."""

    def __init__(self, hits: float, trials: float) -> None:
        self.hits, self.trials = hits, trials

    @property
    def mean(self) -> float:
        """Return the estimate."""
        return min(self.hits / self.trials, _HIGHEST)

    @property
    def deviation(self) -> float:
        """Return its standard error."""
        mean = min(max(self.mean, 0.02), 0.98)
        return math.sqrt(mean * (1 - mean) / self.trials)

    def add(self, hits: float, trials: float) -> None:
        """Take in trials, and how many of them hit."""
        kept = max(0.0, 1 - trials / _MEMORY_TRIALS)
        self.hits, self.trials = kept * self.hits + hits, kept * self.trials + trials

    def before(self, hits: float, trials: float) -> Counts:
        """Return what was known before the latest trials."""
        return max(self.hits - hits, 0.0), max(self.trials - trials, 0.0)

    def less(self, kept: float) -> Share:
        """Return it as known from a part of its trials."""
        return Share(kept * self.hits, kept * self.trials)

    def leaning_on(self, share: float, trials: float) -> Share:
        """Return it as if so many more trials had hit as often as ``share`` says."""
        return Share(self.hits + share * trials, self.trials + trials)

    def hoped(self, deviations: float, silent: float) -> float:
        """Return what it may be: so many standard errors more; with every half-life of silence, half as far from 1."""
        if not (deviations or silent):
            return self.mean
        far = 1 - self.mean - deviations * self.deviation
        return min(1 - far * math.pow(0.5, silent), _HIGHEST)


class Accuracy:
    """How often a drafter is right: of all its tokens, at a draft's first one, and behind one that was right.

    A model hardly differs between the two; a drafter that looks up what it has read has long runs of right tokens, or
    none. So each is taken to be as all are until it has shown otherwise. Where the last drafts are not explained by
    those before them, all begin anew from them.
    """

    def __init__(self, prior: float, weight: float) -> None:
        self._all, self._first, self._behind = Share(prior * weight, weight), Share(0.0, 0.0), Share(0.0, 0.0)
        self._lately: deque[tuple[Counts, Counts]] = deque(maxlen=_LATELY[-1])  # of first tokens, of those behind

    @property
    def mean(self) -> float:
        """Return the share of all."""
        return self._all.mean

    def add(self, right: int, of: int, *, begins: bool = True) -> None:
        """Take in a draft of which so many tokens were right before one was not.

        It ``begins`` unless it goes on with others that were right.
        """
        judged = right + (right < of)
        if not judged:
            return
        first = (min(right, 1), 1) if begins else (0, 0)
        self._lately.append((first, (right - first[0], judged - first[1])))
        self._take_in(self._lately[-1])
        if changed := self._changed():
            self._begin_anew(list(self._lately)[-changed:])

    def parts(self, deviations: float = 0.0, silent: float = 0.0) -> tuple[float, float]:
        """Return the shares behind a right token, and of first ones; or what they may be: see :meth:`Share.hoped`."""
        behind, first = (one.leaning_on(self.mean, _ALIKE) for one in (self._behind, self._first))
        return behind.hoped(deviations, silent), first.hoped(deviations, silent)

    def carried(self, trials: float) -> Accuracy:
        """Return it as known from so many trials at most: for a text that need not be like the one before."""
        result, kept = Accuracy(0.0, 0.0), min(1.0, trials / self._all.trials)
        result._all, result._first, result._behind = (one.less(kept) for one in self._shares())
        return result

    def leaning_on(self, other: Accuracy) -> Accuracy:
        """Return it as known from another one's drafts too, each counted as likely as both are of the same drafter."""
        likely = self.alike(other)
        result = Accuracy(0.0, 0.0)
        result._all, result._first, result._behind = (
            Share(ours.hits + likely * theirs.hits, ours.trials + likely * theirs.trials)
            for ours, theirs in zip(self._shares(), other._shares(), strict=True)
        )
        return result

    def alike(self, other: Accuracy) -> float:
        """Return how likely the same drafter made both drafts; before any, as likely as not.

        By Bayes' rule, for shares of which any is as likely as another: one drafter's are the same in both.
        """
        odds = 0.0  # against it, as a logarithm
        for ours, theirs in ((self._first, other._first), (self._behind, other._behind)):
            odds += _evidence(ours.hits, ours.trials) + _evidence(theirs.hits, theirs.trials)
            odds -= _evidence(ours.hits + theirs.hits, ours.trials + theirs.trials)
        return 1 / (1 + math.exp(min(odds, _SURELY_NOT)))

    def _shares(self) -> tuple[Share, Share, Share]:
        return self._all, self._first, self._behind

    def _take_in(self, draft: tuple[Counts, Counts]) -> None:
        first, behind = draft
        self._all.add(first[0] + behind[0], first[1] + behind[1])
        self._first.add(*first)
        self._behind.add(*behind)

    def _changed(self) -> int:
        """Return how many of the last drafts those before them do not explain; 0 if they do."""
        first_hits = first_trials = behind_hits = behind_trials = 0.0
        for length, (first, behind) in enumerate(reversed(self._lately), 1):
            first_hits, first_trials = first_hits + first[0], first_trials + first[1]
            behind_hits, behind_trials = behind_hits + behind[0], behind_trials + behind[1]
            if length in _LATELY and self._surprise((first_hits, first_trials), (behind_hits, behind_trials)):
                return length
        return 0

    def _surprise(self, first: Counts, behind: Counts) -> bool:
        """Say whether what came before explains the latest first tokens and those behind them too badly."""
        hits, trials = self._all.before(first[0] + behind[0], first[1] + behind[1])
        if trials < _ENOUGH:
            return False
        alike = _ALIKE * hits / trials
        old_first, old_behind = self._first.before(*first), self._behind.before(*behind)
        before_first = (old_first[0] + alike, old_first[1] + _ALIKE)
        before_behind = (old_behind[0] + alike, old_behind[1] + _ALIKE)
        if _most_difference(first, before_first) + _most_difference(behind, before_behind) <= _SURPRISING:
            return False
        return _difference(first, before_first) + _difference(behind, before_behind) > _SURPRISING

    def _begin_anew(self, recent: Sequence[tuple[Counts, Counts]]) -> None:
        self._all, self._first, self._behind = Share(0.5, 1.0), Share(0.0, 0.0), Share(0.0, 0.0)
        self._lately = deque(recent, maxlen=_LATELY[-1])
        for draft in recent:
            self._take_in(draft)


def _difference(lately: Counts, before: Counts) -> float:
    """Return twice the log-likelihood ratio of two shares against one for both: χ² with one degree of freedom.

    What is little known, lately or from before, surprises little.
    """
    share = _common(lately, before)
    return 2 * (_likelihood_ratio(*lately, share) + _likelihood_ratio(*before, share))


def _most_difference(lately: Counts, before: Counts) -> float:
    """Return what :func:`_difference` is at most, without logarithms: a divergence is no more than that of χ²."""
    share = _common(lately, before)
    squares = sum((hits - share * trials) ** 2 / trials for hits, trials in (lately, before) if trials)
    return 2 * squares / (share * (1 - share))


def _common(lately: Counts, before: Counts) -> float:
    return min(max((lately[0] + before[0]) / (lately[1] + before[1]), 0.02), 0.98)


def _likelihood_ratio(hits: float, trials: float, share: float) -> float:
    """Return by how much its own share explains what came better than ``share``, as a logarithm."""
    misses = trials - hits
    ratio = hits * math.log(hits / trials / share) if hits > 0 else 0.0
    return ratio + (misses * math.log(misses / trials / (1 - share)) if misses > 0 else 0.0)


def _evidence(hits: float, trials: float) -> float:
    """Return how likely such trials are, in their order, if any share is as likely as another: as a logarithm."""
    return math.lgamma(hits + 1) + math.lgamma(trials - hits + 1) - math.lgamma(trials + 2)
