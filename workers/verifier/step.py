"""One step, without Redis: from waiting rounds to rows, from logits to verdicts.

This module does not know streams, leases or threads; the service around it does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

from dsdq.accept import Acceptance
from dsdq.laws import DraftLaw
from dsdq.session import Live, settle
from dsdq.wire import Closed, Decode, Draft, Verdict
from workers.engine.engine import Engine, Row
from workers.engine.judge import Judged, judge
from workers.verifier.held import Held, Pending


@dataclass(frozen=True, slots=True)
class Planned:
    """A round that will run in this step: what is left of its window, and the row that feeds it."""

    held: Held
    pending: Pending
    drafted: tuple[int, ...]
    law: DraftLaw | None
    row: Row


@dataclass(frozen=True, slots=True)
class Timing:
    """One step's start and end (monotonic seconds), and how many sessions it had."""

    started_s: float
    ended_s: float
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round came to: its verdict, whether that answers the round, and the receipt when the text ends with it."""

    planned: Planned
    verdict: Verdict
    final: bool
    closed: Closed | None


def plan(held: Held, pending: Pending, live: Live, vocab_size: int) -> Planned:
    """Return the row that verifies what is left of a live round.

    The row starts at the first position without a valid KV: the last committed token at least, the whole prompt at
    first.
    """
    # An id outside the vocabulary can never be accepted; the window ends before it.
    drafted = tuple(takewhile(lambda token: token < vocab_size, live.tokens))
    law = pending.message.law if isinstance(pending.message, Draft) else None
    if law is not None:
        law = law.tail(len(law.ids) - len(live.tokens))
    text = held.state.transcript.tokens
    row = Row(held.session, held.cached, (*text[held.cached :], *drafted), len(drafted) + 1)
    return Planned(held, pending, drafted, law, row)


def compute(engine: Engine, planned: Sequence[Planned], secret: int) -> list[Acceptance]:
    """Run one forward over all rows and decide, row by row, what stands. Runs on the engine's thread."""
    logits = engine.forward([one.row for one in planned])
    rounds = [
        Judged(one.held.state.contract, one.held.state.transcript.length, one.drafted, one.law) for one in planned
    ]
    return judge(rounds, logits, secret)


def conclude(planned: Planned, acceptance: Acceptance, eos_ids: Collection[int], timing: Timing) -> Outcome:
    """Return the verdict of one judged round. Nothing is changed yet: the commit may still be refused."""
    state, message = planned.held.state, planned.pending.message
    transcript = state.transcript
    kept, reason = settle(state.contract, transcript.generated, acceptance.tokens, eos_ids)
    verdict = Verdict(
        session=planned.held.session,
        first_round=message.round,
        last_round=message.round,
        branch=message.branch,
        base=transcript.length,
        drafted=len(planned.drafted),
        accepted=min(acceptance.accepted, len(kept)),
        tokens=kept,
        length=transcript.length + len(kept),
        digest=transcript.digest_after(kept),
        verified=len(planned.drafted) + 1,
        queue_us=round(1e6 * (timing.started_s - planned.pending.received_s)),
        verify_us=round(1e6 * (timing.ended_s - timing.started_s)),
        batch_rows=timing.batch_rows,
        max_window=state.contract.max_window,
    )
    granted = isinstance(message, Decode) and verdict.length < message.base + message.budget
    if reason is None:
        return Outcome(planned, verdict, not granted, None)
    counts = state.counts.after(verdict)
    receipt = Closed(
        session=planned.held.session,
        reason=reason,
        length=verdict.length,
        digest=verdict.digest,
        rounds=counts.rounds,
        drafted=counts.drafted,
        accepted=counts.accepted,
        verified=counts.verified,
    )
    return Outcome(planned, verdict, final=True, closed=receipt)
