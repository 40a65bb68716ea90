"""One step, without Redis: from waiting rounds to rows, from logits to verdicts.

This module does not know streams, leases or threads; the service around it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from dsdq.accept import Acceptance, DraftLaw
from dsdq.session import Live, liveness, settle
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
class Outcome:
    """What a round came to: its verdict, and the closing message when the text ended with it."""

    planned: Planned
    verdict: Verdict
    closed: Closed | None


def plan(held: Held, pending: Pending, live: Live, vocab_size: int) -> Planned:
    """Return the row that verifies what is left of a live round.

    The row starts at the first position without a valid KV: the last committed token at least, the whole prompt at first,
    everything since when other rounds or a rebuild came between.
    """
    state = held.state
    window = state.contract.max_window
    # An id outside the vocabulary can never be accepted; the window ends before it.
    drafted = tuple(takewhile(lambda token: token < vocab_size, live.tokens[:window]))
    law = pending.message.law if isinstance(pending.message, Draft) else None
    if law is not None:
        skipped = len(law.ids) - len(live.tokens)
        law = replace(law, ids=law.ids[skipped:][: len(drafted)], weights=law.weights[skipped:][: len(drafted)])
    text = state.transcript.tokens
    row = Row(held.session, held.cached, (*text[held.cached :], *drafted), len(drafted) + 1)
    return Planned(held, pending, drafted, law, row)


def compute(engine: Engine, planned: Sequence[Planned], secret: int) -> list[Acceptance]:
    """Run one forward over all rows and decide, row by row, what stands. Runs on the engine's thread."""
    logits = engine.forward([one.row for one in planned])
    rounds = [
        Judged(one.held.state.contract, one.held.state.transcript.length, one.drafted, one.law) for one in planned
    ]
    return judge(rounds, logits, secret)


def conclude(
    planned: Planned, acceptance: Acceptance, eos_ids: Sequence[int], started_s: float, ended_s: float, batch_rows: int
) -> Outcome:
    """Return the verdict of one judged round. Nothing is changed yet: the commit may still be refused."""
    state = planned.held.state
    message = planned.pending.message
    kept, reason = settle(state.contract, state.transcript, acceptance.tokens, eos_ids)
    after = state.transcript.extended(kept)
    accepted = min(acceptance.accepted, len(kept))
    verdict = Verdict(
        session=planned.held.session,
        first_round=message.round,
        last_round=message.round,
        branch=message.branch,
        base=state.transcript.length,
        accepted=accepted,
        tokens=kept,
        length=after.length,
        digest=after.digest,
        verified=len(planned.drafted) + 1,
        queue_us=round(1e6 * (started_s - planned.pending.received_s)),
        verify_us=round(1e6 * (ended_s - started_s)),
        batch_rows=batch_rows,
        max_window=state.contract.max_window,
        more=reason is None,
    )
    if reason is None:
        return Outcome(planned, verdict, None)
    counts = state.counts.after(verdict, drafted=len(planned.drafted))
    closed = Closed(
        session=planned.held.session,
        reason=reason,
        length=after.length,
        digest=after.digest,
        rounds=counts.rounds,
        drafted=counts.drafted,
        accepted=counts.accepted,
        verified=counts.verified,
    )
    return Outcome(planned, verdict, closed)
