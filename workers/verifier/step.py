"""One step, without Redis: from waiting rounds to rows, from logits to verdicts.

This module does not know streams, leases or threads; the service around it does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

from dsdq.accept import Acceptance
from dsdq.laws import DraftLaw
from dsdq.logprobs import TokenLogprobs
from dsdq.policies.batching import Share, Work
from dsdq.session import Live, settle
from dsdq.wire import Closed, Decode, Draft, Verdict
from workers.engine.engine import Engine, Row
from workers.engine.judge import Judged, judge
from workers.verifier.held import Held, Pending


@dataclass(frozen=True, slots=True)
class Ready:
    """A session that has something to feed, and its next live round if one waits: what is left of the draft.

    Of ``drafted`` the forward sees the first ``fed``: all, or all but a last id that the target does not have.
    """

    held: Held
    pending: Pending | None = None
    drafted: tuple[int, ...] = ()
    law: DraftLaw | None = None
    fed: int = 0

    @property
    def waiting_since_s(self) -> float:
        """Return when the round came, or when the session did."""
        return self.held.touched_s if self.pending is None else self.pending.received_s

    @property
    def work(self) -> Work:
        """Return what the session could use of a step: the last committed token is fed with the round."""
        held = self.held
        verify = 0 if self.pending is None else self.fed + 1
        return Work(held.session, held.state.transcript.length - 1 - held.cached, verify)


@dataclass(frozen=True, slots=True)
class Planned:
    """A row of this step, and what is ready of its session; ``verifies`` is False where it only feeds text."""

    ready: Ready
    row: Row
    verifies: bool


@dataclass(frozen=True, slots=True)
class Timing:
    """One step's start and end (monotonic seconds), and how many sessions it verified."""

    started_s: float
    ended_s: float
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round came to: its verdict, whether that answers the round, and the receipt when the text ends with it."""

    held: Held
    pending: Pending
    verdict: Verdict
    final: bool
    closed: Closed | None


def ready_round(held: Held, pending: Pending, live: Live, vocab_size: int) -> Ready:
    """Return a live round as it could run now."""
    fed = sum(1 for _ in takewhile(lambda token: token < vocab_size, live.tokens))
    drafted = live.tokens[: fed + 1]  # an id outside the vocabulary is rejected; what follows it does not matter
    law = pending.message.law if isinstance(pending.message, Draft) else None
    if law is not None:
        law = law.tail(len(law.ids) - len(live.tokens))
    return Ready(held, pending, drafted, law, fed)


def plan(ready: Ready, share: Share) -> Planned:
    """Return the row of a session's share. It starts at the first position without a valid KV."""
    held = ready.held
    start, text = held.cached, held.state.transcript.tokens
    if not share.verify:
        return Planned(ready, Row(held.session, start, tuple(text[start : start + share.prefill]), 0), verifies=False)
    fed = (*text[start:], *ready.drafted[: ready.fed])
    return Planned(ready, Row(held.session, start, fed, ready.fed + 1), verifies=True)


def compute(engine: Engine, planned: Sequence[Planned], secret: int) -> list[Acceptance]:
    """Run one forward over all rows and return what stands of each round among them. Runs on the engine's thread."""
    logits = engine.forward([one.row for one in planned])
    return judge([_judged(one.ready) for one in planned if one.verifies], logits, secret)


def _judged(ready: Ready) -> Judged:
    transcript = ready.held.state.transcript
    return Judged(
        ready.held.state.contract,
        transcript.length,
        ready.drafted,
        ready.law,
        ready.fed,
        transcript.tokens,
        transcript.prompt_tokens,
    )


def conclude(
    ready: Ready,
    pending: Pending,
    acceptance: Acceptance,
    eos_ids: Collection[int],
    timing: Timing,
    logprobs: TokenLogprobs | None = None,
) -> Outcome:
    """Return the verdict of one judged round. Nothing is changed yet: the commit may still be refused.

    ``logprobs`` are those of the acceptance's tokens; the verdict has those of the tokens that are committed.
    """
    state, message = ready.held.state, pending.message
    transcript = state.transcript
    stop_place = ready.held.stops.place(acceptance.tokens)
    kept, reason = settle(state.contract, transcript.generated, acceptance.tokens, eos_ids, stop_place)
    verdict = Verdict(
        session=ready.held.session,
        first_round=message.round,
        last_round=message.round,
        branch=message.branch,
        base=transcript.length,
        drafted=len(ready.drafted),
        accepted=min(acceptance.accepted, len(kept)),
        tokens=kept,
        length=transcript.length + len(kept),
        digest=transcript.digest_after(kept),
        verified=ready.fed + 1,
        queue_us=round(1e6 * (timing.started_s - pending.received_s)),
        verify_us=round(1e6 * (timing.ended_s - timing.started_s)),
        batch_rows=timing.batch_rows,
        max_window=state.contract.max_window,
        logprobs=None if logprobs is None else logprobs.head(len(kept)),
    )
    granted = isinstance(message, Decode) and verdict.length < message.base + message.budget
    if reason is None:
        return Outcome(ready.held, pending, verdict, not granted, None)
    counts = state.counts.after(verdict)
    receipt = Closed(
        session=ready.held.session,
        reason=reason,
        length=verdict.length,
        digest=verdict.digest,
        rounds=counts.rounds,
        drafted=counts.drafted,
        accepted=counts.accepted,
        verified=counts.verified,
    )
    return Outcome(ready.held, pending, verdict, final=True, closed=receipt)
