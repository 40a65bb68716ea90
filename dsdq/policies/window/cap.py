"""How wide a window a verifier lets a device draft next, or drafts itself, and what it has to know for that. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

PRIOR_ACCEPTANCE = 0.6
_PRIOR_TRIALS = 4.0
_MEMORY_TRIALS = 64.0
_FORGET_BY_TOKEN = 0.01

_MEMORY_STEPS = 64
_POSITION_SHARE = 0.03
"""What a position adds to a step, as a share of it, before steps of different sizes were seen."""
_PRIOR_STEPS = 1.0
_FIRST_STEPS = 4
_SURPRISE = 2.0


def widest_window(step_tokens: int, waiting: float, agreed: int) -> int:
    """Return the largest window that a verifier asks for next, in tokens: with it, all who wait fit one step.

    A draft's tail is the part least likely to stand. Under load its place in a step is worth more to somebody else.

    Args:
        step_tokens: window tokens of one step.
        waiting: sessions whose rounds waited for this step, if all had the same of it.
        agreed: the contract's own bound.
    """
    return max(1, min(agreed, int(step_tokens / max(waiting, 1)) - 1))


def paying_window(step_ms: float, position_ms: float, rows: int, acceptance: float, agreed: int) -> int:
    """Return the widest window with which ``rows`` sessions are served no slower than if the target decoded alone.

    A step over B rows of γ + 1 positions takes ``a + b·B·(γ + 1)`` and commits ``B·τ(γ)`` tokens, with
    ``τ(γ) = (1 - α^(γ+1)) / (1 - α)``; without drafts it takes ``a + b·B`` and commits B. So speculation pays iff

        τ(γ)·(a + b·B) >= a + b·B·(γ + 1)

    The left side grows ever more slowly with γ, the right side evenly: what pays is an interval, and it ends earlier
    the more rows there are (arXiv 2406.14066 chooses lengths by such a rate).

    Args:
        step_ms: a, what a step takes without
        position_ms: b, what each position takes.
        rows: B, sessions of a step.
        acceptance: α, of those sessions.
        agreed: the contract's own bound.

    Returns:
        0 to ``agreed`` tokens; 0 if even one draft token costs more than it brings.
    """
    alone_ms = step_ms + position_ms * rows
    committed, paying = 1.0, 0
    for window in range(1, agreed + 1):
        committed += acceptance**window
        if committed * alone_ms < alone_ms + position_ms * rows * window:
            break
        paying = window
    return paying


def best_window(step_ms: float, position_ms: float, draft_ms: float, acceptance: float, most: int) -> int:
    """Return the window with which a busy verifier commits most tokens in a time.

    That is the γ of the largest ``τ(γ) / (a + b·(γ + 1) + c·γ)``; the ratio rises to it and falls behind it. 0 is to
    decode alone.

    Args:
        step_ms: a, a session's share of what a step takes without
        position_ms: b, what each position takes.
        draft_ms: c, a session's share of what a draft token takes; 0 where its device drafts.
        acceptance: α, of these drafts.
        most: no more is asked for.
    """
    committed, took_ms, best = 1.0, step_ms + position_ms, 0
    each_ms = position_ms + draft_ms
    for window in range(1, most + 1):
        more = acceptance**window
        if more * took_ms < committed * each_ms:
            break
        committed, took_ms, best = committed + more, took_ms + each_ms, window
    return best


def shared_windows(
    step: tuple[float, float], draft: tuple[float, float], crowd: Mapping[str, tuple[int, float]], most: int
) -> dict[str, int]:
    """Return the windows of a verifier's own drafts with which a step commits most tokens in a time, by tenant.

    A draft pass is for all who are drafted for, so it is made where what all of them gain by it pays, and whose drafts
    do not stand neither goes along nor keeps it from the others. Of one tenant that is what :func:`best_window` finds.

    Args:
        step: what a step takes without, and what each position takes, in milliseconds.
        draft: the same of a draft pass.
        crowd: how many sessions of each tenant share the step, and the acceptance of drafts made for them.
        most: no more is asked for.
    """
    each_ms = step[1] + draft[1]
    committed = float(sum(count for count, _ in crowd.values()))
    took_ms, windows = step[0] + step[1] * committed, dict.fromkeys(crowd, 0)
    for window in range(1, most + 1):
        gains = {
            tenant: (count, count * acceptance**window)
            for tenant, (count, acceptance) in crowd.items()
            if acceptance**window * took_ms >= committed * each_ms
        }
        more = sum(gain for _, gain in gains.values())
        more_ms = draft[0] + each_ms * sum(count for count, _ in gains.values())
        if not gains or more * took_ms < committed * more_ms:
            break
        committed, took_ms = committed + more, took_ms + more_ms
        windows.update(dict.fromkeys(gains, window))
    return windows


@dataclass(slots=True)
class Acceptance:
    """How many of a session's draft tokens stand, of late.

    Where nothing is drafted the estimate goes back to what was expected at first, so that drafting is tried again.
    """

    hits: float = PRIOR_ACCEPTANCE * _PRIOR_TRIALS
    trials: float = _PRIOR_TRIALS

    @property
    def mean(self) -> float:
        """Return the probability that a draft token stands if all before it do."""
        return self.hits / self.trials

    @property
    def hoped(self) -> float:
        """Return what it may well be: the mean and one standard error.

        Where a window is too narrow nothing shows it, so little that was seen must not narrow it.
        """
        return min(1.0, self.mean + sqrt(max(0.0, self.mean * (1 - self.mean)) / self.trials))

    def add(self, drafted: int, accepted: int, committed: int) -> None:
        """Take in a verdict, in tokens."""
        if drafted:
            judged = accepted + (accepted < drafted)
            kept = max(0.0, 1 - judged / _MEMORY_TRIALS)
            self.hits, self.trials = kept * self.hits + accepted, kept * self.trials + judged
        else:
            self.hits += min(1.0, _FORGET_BY_TOKEN * committed) * (PRIOR_ACCEPTANCE * self.trials - self.hits)


class StepCost:
    """What a verifier's step takes, ``step_ms + position_ms·positions``, from its last steps: least squares.

    Steps that are all alike do not tell the two apart: then a position counts as three percent of a step. A step that
    took less than half or more than twice of what was expected counts as half or twice of it, so that a machine that
    was busy with something else is not taken for a slow one at once. The first steps are ignored: what they need is
    loaded and compiled for them, and as they feed prompts, positions would seem to take that time.
    """

    def __init__(self, ignored: int = _FIRST_STEPS) -> None:
        """Know nothing: then all is 0. So many steps are ignored."""
        self._ignored = ignored
        self.step_ms, self.position_ms = 0.0, 0.0
        self._weight, self._x, self._y, self._xx, self._xy, self._yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0

    def add(self, positions: float, took_ms: float) -> None:
        """Take in a step over so many positions."""
        if self._ignored:
            self._ignored -= 1
            return
        if self._weight:
            expected_ms = self.step_ms + self.position_ms * positions
            took_ms = min(max(took_ms, expected_ms / _SURPRISE), expected_ms * _SURPRISE)
        self._weight += 1
        weight = max(2 / (self._weight + 1), 1 / _MEMORY_STEPS)
        dx, dy = positions - self._x, took_ms - self._y
        self._x, self._y = self._x + weight * dx, self._y + weight * dy
        self._xx = (1 - weight) * (self._xx + weight * dx * dx)
        self._xy = (1 - weight) * (self._xy + weight * dx * dy)
        self._yy = (1 - weight) * (self._yy + weight * dy * dy)
        self._solve()

    def surely(self) -> tuple[float, float]:
        """Return ``step_ms`` and ``position_ms`` as they are where a position takes one standard error less."""
        if not self._weight:
            return 0.0, 0.0
        slope, steps = self.position_ms, min(self._weight, _MEMORY_STEPS)
        spread = max(0.0, self._yy - 2 * slope * self._xy + slope * slope * self._xx)
        position_ms = max(0.0, slope - sqrt(spread / (steps * self._xx + _PRIOR_STEPS)))
        return self._y - position_ms * self._x, position_ms

    def _solve(self) -> None:
        # The prior is a step of its own, as far from the others as one position is.
        usual = _POSITION_SHARE * self._y / (1 + _POSITION_SHARE * self._x)
        prior = _PRIOR_STEPS / min(self._weight, _MEMORY_STEPS)
        slope = (self._xy + prior * usual) / (self._xx + prior)
        self.position_ms = min(max(slope, 0.0), self._y / max(self._x, 1.0))
        self.step_ms = self._y - self.position_ms * self._x


class DraftCost:
    """What a verifier takes to draft itself, of late: each place of a window is a pass over all rows drafted for.

    The first pass feeds what texts have more than when they were last drafted for, so costs go by positions. The first
    draft is ignored: what it needs is loaded and compiled for it. While nothing is drafted the estimate falls, so that
    drafting is tried again.
    """

    def __init__(self) -> None:
        self._pass = StepCost(ignored=1)
        self._hope = 1.0

    def add(self, positions: int, places: int, took_ms: float) -> None:
        """Take in a step whose drafts fed so many positions, ``places`` tokens for the longest."""
        if not places:
            self._hope *= 1 - _FORGET_BY_TOKEN
            return
        self._hope = 1.0
        self._pass.add(positions / places, took_ms / places)

    def parts_ms(self) -> tuple[float, float]:
        """Return what a pass takes without, and what each row takes."""
        return self._hope * self._pass.step_ms, self._hope * self._pass.position_ms

    def share_ms(self, rows: int) -> float:
        """Return what a draft token takes for each of so many rows."""
        pass_ms, row_ms = self.parts_ms()
        return pass_ms / rows + row_ms
