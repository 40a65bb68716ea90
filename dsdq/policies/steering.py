"""How a verifier steers: what its steps and drafts take, and how far it pays to draft and to wait therefore. Pure.

It knows sessions by name at most, and has no clock: what was measured comes in as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dsdq.contract import MAX_WINDOW
from dsdq.policies.batching import linger_s
from dsdq.policies.fairness import Prices
from dsdq.policies.window import (
    Acceptance,
    DraftCost,
    StepCost,
    best_window,
    paying_window,
    shared_windows,
    widest_window,
)

_RECENT_STEP = 0.1  # weight of the newest step in moving averages
_RECENT_ROUND = 0.2  # weight of the newest round in moving averages
_MOST_IDLE = 4.0  # times the step: a long pause says little of how the next ones will be
_ENOUGH_ROUNDS = 3  # tell when the next one is due


@dataclass(frozen=True, slots=True)
class OwnDraft:
    """What the verifier drafted itself for one session in a step, and what came of it, in tokens.

    It was to draft so many ``wanted`` tokens: none where that would not have paid.
    """

    tenant: str
    wanted: int
    drafted: int
    accepted: int
    committed: int


@dataclass(frozen=True, slots=True)
class OwnDrafts:
    """What the verifier drafted itself in a step: what that took before the pass, and how many positions were fed.

    ``of`` says it by session, for those that it was asked to draft for.
    """

    ms: float = 0.0
    positions: int = 0
    of: Mapping[str, OwnDraft] = field(default_factory=dict)


NO_DRAFTS = OwnDrafts()


class Steering:
    """Running costs of one engine. One that is ``brief`` is not measured: nobody has to save what it takes.

    A step takes at most ``step_tokens``.
    """

    def __init__(self, step_tokens: int, *, brief: bool) -> None:
        self._step_tokens, self._brief = step_tokens, brief
        self._step, self._draft = StepCost(), DraftCost()
        self._own_acceptance: dict[str, Acceptance] = {}  # of each tenant's sessions together
        self._idle_ms = 0.0
        self._row_positions = 1.0

    def take_in(
        self, rows: int, positions: int, took_ms: float, idle_ms: float = 0.0, own: OwnDrafts = NO_DRAFTS
    ) -> None:
        """Take in a step that verified something.

        Args:
            rows: how many it had, at least one.
            positions: of all rows; places kept for drafts that were not made do not count.
            took_ms: its whole time, drafting included.
            idle_ms: how long nothing was done before it.
            own: what the verifier drafted itself.
        """
        if self._brief:
            return
        self._step.add(positions, took_ms - own.ms)
        self._draft.add(own.positions, max((one.drafted for one in own.of.values()), default=0), own.ms)
        self._take_in_drafts(own)
        self._idle_ms += _RECENT_STEP * (min(idle_ms, _MOST_IDLE * took_ms) - self._idle_ms)
        self._row_positions += _RECENT_STEP * (positions / rows - self._row_positions)

    def parts_ms(self, positions: Mapping[str, int], took_ms: float, own: OwnDrafts = NO_DRAFTS) -> dict[str, float]:
        """Return what each session had of a step's time: by what rows and positions take, and tokens drafted here.

        Each session has one row, of so many ``positions``; all is counted as in :meth:`take_in`.
        """
        drafted = {session: own.of[session].drafted if session in own.of else 0 for session in positions}
        drafting_ms = own.ms if any(drafted.values()) else 0.0
        prices = self.prices(len(positions))
        parts = _parts({session: prices.of(count) for session, count in positions.items()})
        own_parts = _parts(drafted)
        return {
            session: parts[session] * (took_ms - drafting_ms) + own_parts[session] * drafting_ms
            for session in positions
        }

    def prices(self, rows: int) -> Prices:
        """Return what each of so many rows takes, and each position; as long as nothing is known, positions alone."""
        row_ms, position_ms = self._step.step_ms / rows, self._step.position_ms
        return Prices(row_ms, position_ms) if row_ms or position_ms else Prices()

    def _take_in_drafts(self, own: OwnDrafts) -> None:
        """Take in how drafts stood. What is not seen, as a tenant is not drafted for, is forgotten and tried again."""
        unseen = {one.tenant for one in own.of.values()} - {one.tenant for one in own.of.values() if one.wanted}
        for one in own.of.values():
            if one.drafted:
                self._own_acceptance.setdefault(one.tenant, Acceptance()).add(one.drafted, one.accepted, one.committed)
        for tenant in unseen & self._own_acceptance.keys():
            self._own_acceptance[tenant].add(0, 0, 1)

    def own_windows(self, waiting: Mapping[str, int]) -> dict[str, int]:
        """Return how many tokens to draft here at most for a session of each tenant, where so many wait for a step.

        None goes further than pays for all: the draft passes behind the others' windows would be its alone. Nor further
        than lets all who wait into one step. A tenant's sessions together show how its drafts stand: there is no need
        to hope, and one whose drafts do not stand narrows nobody else's.
        """
        rows = sum(waiting.values())
        most = widest_window(self._step_tokens, rows, MAX_WINDOW)
        if rows < 2:
            return dict.fromkeys(waiting, most)
        known, unknown = self._own_acceptance, Acceptance()
        crowd = {tenant: (count, known.get(tenant, unknown).mean) for tenant, count in waiting.items()}
        return shared_windows((self._step.step_ms, self._step.position_ms), self._draft.parts_ms(), crowd, most)

    def own_window(self, acceptance: Acceptance, waiting: int, most: int) -> int:
        """Return how many tokens to draft here for a session, one of so many that wait and share a step.

        By the ``acceptance`` of what was drafted here for it, and at ``most`` what pays for all (:meth:`own_windows`).
        """
        return self._best(acceptance.hoped, waiting, self._draft.share_ms(waiting), most)

    def merged_window(self, acceptance: Acceptance, waiting: int) -> int:
        """Return how many tokens of several windows of a session to verify at once, by its device's ``acceptance``.

        Where nobody else waits their places are free. Else later windows are verified when those before them stood.
        """
        if self._brief or waiting < 2:
            return MAX_WINDOW
        return self._best(acceptance.mean, waiting, 0.0, MAX_WINDOW)

    def next_window(self, acceptance: Acceptance, agreed: int, waiting: int, crowd: float) -> int:
        """Return the largest window that a device may draft next; 0 if even one token costs others more than it brings.

        A session that is alone slows nobody. Of several none is to be slower than if all decoded alone, and what
        commits most tokens in a time serves all best: the time between steps is like what all rows of a step share.
        What is little known speaks for the wider window: under a narrow one nobody would learn better.

        Args:
            acceptance: of its drafts.
            agreed: its contract's own bound, in tokens.
            waiting: how many sessions wait, itself among them.
            crowd: how many its tenant's share of a step makes of them (``FairShare.crowd``).
        """
        widest = widest_window(self._step_tokens, crowd, agreed)
        if self._brief or waiting < 2:
            return widest
        hoped, (step_ms, position_ms) = acceptance.hoped, self._step.surely()
        paying = paying_window(step_ms, position_ms, waiting, hoped, widest)
        return best_window((step_ms + self._idle_ms) / waiting, position_ms, 0.0, hoped, paying)

    def linger_s(self, waiting_positions: Sequence[int], expected_s: Sequence[float]) -> float:
        """Return for how long a step should wait for rounds that are expected in so many seconds.

        Rounds of ``waiting_positions`` are here. Where they fill the step, others would find no room in it.
        """
        if sum(waiting_positions) >= self._step_tokens:
            return 0.0
        row_s = self._row_positions * self._step.position_ms / 1000
        return linger_s(len(waiting_positions), expected_s, self._step.step_ms / 1000, row_s)

    def _best(self, acceptance: float, waiting: int, draft_ms: float, most: int) -> int:
        return best_window(self._step.step_ms / waiting, self._step.position_ms, draft_ms, acceptance, most)


@dataclass(slots=True)
class Turnaround:
    """How long a device takes for its next round once all are answered: running mean and deviation, in seconds."""

    answered_s: float = 0.0  # monotonic; 0 while a round waits, or before the first verdict
    mean_s: float = 0.0
    deviation_s: float = 0.0
    count: int = 0

    def asked(self, now_s: float) -> None:
        """Take note of a round that came while none waited."""
        if not self.answered_s:
            return
        took_s, self.answered_s = now_s - self.answered_s, 0.0
        self.count += 1
        weight = max(_RECENT_ROUND, 1 / self.count)
        off_s = took_s - self.mean_s
        self.mean_s += weight * off_s
        self.deviation_s += weight * (abs(off_s) - self.deviation_s)

    def due_s(self, now_s: float) -> float | None:
        """Return in how many seconds the next round is due; None if nothing is known, or it is late already."""
        if not self.answered_s or self.count < _ENOUGH_ROUNDS:
            return None
        left_s = self.answered_s + self.mean_s + self.deviation_s - now_s
        return left_s if left_s > 0 else None


def _parts(amounts: Mapping[str, float]) -> dict[str, float]:
    """Return what part of all each one is; 0 where there is nothing."""
    whole = sum(amounts.values())
    return {name: amount / whole if whole else 0.0 for name, amount in amounts.items()}
