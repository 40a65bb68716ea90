"""What goes into the verifier's next step, and who has to leave the KV cache for it. Pure.

A step is windows in some order, and beside them a bounded piece of prompts. Which order is a plug-in: a function from
works to works. The clock comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

from dsdq.policies.paging import Paging


class Work(NamedTuple):
    """What one session could use now, in token positions.

    ``cached`` positions have keys and values, ``prefill`` behind them have not yet, ``verify`` behind those are of a
    round that waits, 0 where none does. ``since_s`` is when it began to wait. Its ``tenant`` has a fair share.
    """

    session: str
    cached: int
    prefill: int
    verify: int
    since_s: float
    tenant: str = ""


class Share(NamedTuple):
    """What one session gets of a step: ``verify`` is all of its work's, once its prefill ends in this step, or 0."""

    session: str
    prefill: int
    verify: int


@dataclass(frozen=True, slots=True)
class StepBudget:
    """What one step may take: window tokens, and prompt tokens beside them."""

    window_tokens: int
    prefill_tokens: int


Order = Callable[[Iterable[Work]], Sequence[Work]]
"""Who comes first. Every session must come first some day, or it starves."""


def first_in_first_out(works: Iterable[Work]) -> Sequence[Work]:
    """Return the works, longest waiting first."""
    return sorted(works, key=attrgetter("since_s"))


def like_lengths_together(works: Iterable[Work]) -> Sequence[Work]:
    """Return the works by how far they are from the longest waiting one in length of text, nearest first (LAB).

    The length-aware batching of DSD (arXiv 2511.21669): a step whose texts are alike wastes little where a kernel pads
    to the longest. Starting from the longest waiting one keeps it from starving anybody.
    """
    waiting = first_in_first_out(works)
    if not waiting:
        return waiting
    first = waiting[0].cached + waiting[0].prefill
    return sorted(waiting, key=lambda work: abs(work.cached + work.prefill - first))


ORDERS: dict[str, Order] = {"fifo": first_in_first_out, "length": like_lengths_together}


ROOM_S = 0.05
"""How soon to look again for KV cache that nobody has given up yet."""


class Room(Protocol):
    """Whoever gives out KV blocks."""

    def make(self, work: Work, tokens: int) -> bool:
        """Give the work's session blocks for its first ``tokens`` tokens; False if that cannot be now."""
        ...


def fill(works: Iterable[Work], budget: StepBudget, room: Room) -> Sequence[Share]:
    """Return the next step's shares of ``works``, which come in order.

    Windows are taken in order while they fit ``window_tokens``, the first one always; none overtakes one that did not
    fit. Prefill has ``prefill_tokens`` of its own: neither do long prompts hold up windows by more than that, nor do
    windows keep a prompt waiting. A session for which there is no room is left out.
    """
    shares: list[Share] = []
    left, prefill_left, taken, full = budget.window_tokens, budget.prefill_tokens, False, False
    for work in works:
        prefill = min(work.prefill, prefill_left)
        verify = work.verify if prefill == work.prefill else 0
        if verify and (full or (taken and verify > left)):
            full, verify = True, 0
        if not (prefill or verify) or not room.make(work, work.cached + prefill + verify):
            continue
        if verify:
            taken, left = True, left - verify
        prefill_left -= prefill
        shares.append(Share(work.session, prefill, verify))
    return shares


@dataclass(frozen=True, slots=True)
class Tenure:
    """Who may keep its keys and values when room is short, in seconds.

    A session that has had no row for ``grace_s`` may lose them to any other. One that has waited ``patience_s`` for
    room may take them from anybody who is not in a step at the moment; without that bound a session could starve, with
    less of it every round would begin with a rebuild.
    """

    grace_s: float = 1.0
    patience_s: float = 2.0


class Residency:
    """Room for one step: blocks that are free, then those of idle sessions, longest idle first.

    A session that takes part in the step, or in one that runs (``busy``), loses nothing.
    """

    def __init__(
        self, paging: Paging, used_s: dict[str, float], tenure: Tenure, now_s: float, busy: Iterable[str] = ()
    ) -> None:
        """Take the bookkeeping, when each session last had a row, and the time."""
        self.evicted: list[str] = []
        self._paging = paging
        self._used_s = used_s
        self._tenure = tenure
        self._now_s = now_s
        self._busy = set(busy)
        self._kept = False

    def make(self, work: Work, tokens: int) -> bool:
        """See :class:`Room`."""
        lacking = self._paging.lacking(work.session, tokens)
        if lacking and not self._take(work, tokens, lacking):
            return False
        self._busy.add(work.session)
        return True

    def _take(self, work: Work, tokens: int, lacking: int) -> bool:
        """Give a session the blocks that it lacks, taken from others if need be."""
        if self._kept:
            return False
        impatient = self._now_s - work.since_s >= self._tenure.patience_s
        if lacking > self._paging.available and not self._evict(work.session, lacking, anybody=impatient):
            # What is free, and what becomes free, is kept for one that has waited too long.
            self._kept = impatient
            return False
        return self._paging.reserve(work.session, tokens)

    def _evict(self, claimant: str, lacking: int, *, anybody: bool) -> bool:
        idle_since = self._now_s - self._tenure.grace_s
        victims = [
            session
            for session in sorted(self._paging, key=lambda one: self._used_s.get(one, 0.0))
            if session not in self._busy
            and session != claimant
            and self._paging[session].blocks
            and (anybody or self._used_s.get(session, 0.0) <= idle_since)
        ]
        if self._paging.available + self._paging.evictable(victims) < lacking:
            return False
        for victim in victims:
            if self._paging.available >= lacking:
                break
            self._paging.evict(victim)
            self.evicted.append(victim)
        return True


def linger_s(waiting: int, expected_s: Sequence[float], step_s: float, row_s: float) -> float:
    """Return for how long a step that ``waiting`` sessions are ready for should wait for others, in seconds.

    A step over n rows takes ``a + b·n``, so with r ready now and k more within w it serves
    ``(r + k) / (w + a + b·(r + k))`` rows a second; the wait with the largest of these rates is the answer. Where what
    all rows share (a: reading the weights) dwarfs the time that devices take for their next drafts, they fall into
    step; else they take turns.

    Args:
        waiting: r.
        expected_s: in how many seconds each other session's next round is expected.
        step_s: a.
        row_s: b.
    """
    best, wait_s = waiting / (step_s + row_s * waiting) if step_s or row_s else 0.0, 0.0
    for count, at_s in enumerate(sorted(expected_s), waiting + 1):
        if best and count / (at_s + step_s + row_s * count) > best:
            best, wait_s = count / (at_s + step_s + row_s * count), at_s
    return wait_s
