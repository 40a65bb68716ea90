"""One step, without Redis: from waiting rounds to requests, from logits to verdicts.

This module does not know streams, leases or threads; the service around it does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from dsdq import digest
from dsdq.contract import MAX_WINDOW, Rule
from dsdq.laws import DraftLaw
from dsdq.policies.steering import NO_DRAFTS, OwnDraft, OwnDrafts
from dsdq.session import Live, liveness, settle
from dsdq.wire import Closed, Decode, Draft, Verdict
from workers.engine.planner import Request
from workers.engine.rounds import Judged, Judgement
from workers.engine.rows import Row
from workers.verifier.admission import needed_tokens
from workers.verifier.held import Held, Pending


@dataclass(frozen=True, slots=True)
class Ready:
    """A session that could use a step, and its next live rounds if any wait, merged: what is left of their drafts.

    Of ``drafted`` the forward sees the first ``fed``: all, or all but a last id that the target does not have. Where
    the verifier is ``wanted`` to draft up to so many tokens itself, ``drafted`` keeps their places.
    """

    held: Held
    rounds: tuple[Pending, ...] = ()
    drafted: tuple[int, ...] = ()
    law: DraftLaw | None = None
    fed: int = 0
    wanted: int = 0

    @property
    def granted(self) -> bool:
        """Say whether it is a grant that waits, and no draft."""
        return bool(self.rounds) and isinstance(self.rounds[0].message, Decode)

    @property
    def asks_for_drafts(self) -> bool:
        """Say whether it is a grant for which the verifier is to draft, if that pays."""
        first = self.rounds[0].message if self.rounds else None
        return isinstance(first, Decode) and first.window > 0

    @property
    def request(self) -> Request:
        """Return what the session wants of the step."""
        held = self.held
        since_s = self.rounds[0].received_s if self.rounds else held.touched_s
        drafted = self.drafted[: self.fed] if self.rounds else None
        return Request(held.key, held.state.transcript.tokens, drafted, since_s, held.tenant)

    @property
    def judged(self) -> Judged:
        """Return the rounds as the judge sees them."""
        contract, transcript = self.held.state.contract, self.held.state.transcript
        text: Sequence[int] = ()
        if contract.sampling.adjusts or self.wanted:
            text = tuple(transcript.tokens)
        return Judged(
            contract,
            transcript.length,
            self.drafted,
            self.law,
            self.fed,
            text,
            min(transcript.prompt_tokens, len(text)),
            self.wanted,
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """One step's start and end (monotonic seconds), and how many sessions it verified."""

    started_s: float
    ended_s: float
    batch_rows: int

    @property
    def took_s(self) -> float:
        """Return how long it took."""
        return self.ended_s - self.started_s

    @property
    def took_ms(self) -> float:
        """Return that in milliseconds."""
        return 1000 * self.took_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """What rounds came to: their verdict, whether that answers them, and the receipt when the text ends with it."""

    ready: Ready
    verdict: Verdict
    final: bool
    closed: Closed | None


def ready_rounds(
    held: Held, live: Live, vocab_size: int, own_window: int = 0, merged_window: int = MAX_WINDOW
) -> Ready:
    """Return the first waiting round, which is live, with those behind it that continue its draft.

    All together have up to ``merged_window`` tokens, unless the first has more. For a grant the verifier itself may
    draft up to ``own_window`` tokens.
    """
    first = held.pending[0]
    if isinstance(first.message, Decode):
        wanted = max(0, min(own_window, wanted_window(held, first.message)))
        return Ready(held, (first,), (0,) * wanted, None, wanted, wanted)
    law = first.message.law if isinstance(first.message, Draft) else None
    if law is not None:
        law = law.tail(len(law.ids) - len(live.tokens))
    rounds, tokens = _merged(held, live, merged_window)
    fed = sum(1 for _ in takewhile(lambda token: token < vocab_size, tokens))
    # An id outside the vocabulary is rejected; what follows it does not matter.
    return Ready(held, rounds, tokens[: fed + 1], law, fed)


def is_superseded(held: Held) -> bool:
    """Say whether the first waiting round is a grant whose place a later one takes, which reaches as far."""
    first = held.pending[0].message
    if not isinstance(first, Decode):
        return False
    later = (one.message for one in islice(held.pending, 1, None))
    return any(
        isinstance(one, Decode) and one.end >= first.end and isinstance(liveness(held.state, one), Live)
        for one in later
    )


def positions_of(message: Draft | Decode) -> int:
    """Return how many positions of a step a round takes at least: whether a grant's are drafted is not known yet."""
    return 1 if isinstance(message, Decode) else 1 + len(message.tokens)


def wanted_window(held: Held, grant: Decode) -> int:
    """Return how many tokens a device wants the verifier to draft for the next step of a grant.

    What the target adds of its own stays within grant and contract. Under the rejection rule nothing is drafted here.
    """
    contract, transcript = held.state.contract, held.state.transcript
    if contract.rule is Rule.REJECTION:
        return 0
    left = min(grant.end - transcript.length, contract.max_tokens - transcript.generated)
    return min(grant.window, contract.max_window, left - 1)


def fed_positions(rows: Sequence[Row], verified: Sequence[Ready], judgements: Sequence[Judgement]) -> dict[str, int]:
    """Return how many positions a step fed of each session; places kept for drafts that were not made do not count."""
    positions = {row.session: len(row.tokens) for row in rows}
    for one, judgement in zip(verified, judgements, strict=True):
        if judgement.drafted is not None:
            positions[one.held.key] -= one.wanted - judgement.drafted
    return positions


def own_drafts(verified: Sequence[Ready], judgements: Sequence[Judgement]) -> OwnDrafts:
    """Return what the verifier drafted itself in a step."""
    if not judgements:
        return NO_DRAFTS
    made = {
        one.held.key: OwnDraft(
            one.held.tenant,
            one.wanted,
            judgement.drafted or 0,
            judgement.acceptance.accepted,
            len(judgement.acceptance.tokens),
        )
        for one, judgement in zip(verified, judgements, strict=True)
        if one.asks_for_drafts
    }
    return OwnDrafts(judgements[0].drafting.ms, judgements[0].drafting.positions, made)


def _merged(held: Held, live: Live, most: int) -> tuple[tuple[Pending, ...], tuple[int, ...]]:
    """Take in waiting drafts that begin where the one before them ends, and believe in it.

    Where a draft ends, the target's own next token follows; the next draft's first token is its guess of that. Under
    the rejection rule each window is judged by itself: a later one was drafted on a condition that its law does not
    tell.
    """
    first, tokens = held.pending[0], live.tokens
    if held.state.contract.rule is Rule.REJECTION:
        return (first,), tokens
    rounds, transcript = [first], held.state.transcript
    # A session was let in for so many positions: with more of them it might wait for room for ever.
    room = needed_tokens(held.state.contract, transcript.prompt_tokens) - transcript.length
    for pending in islice(held.pending, 1, None):
        message = pending.message
        if (
            isinstance(message, Decode)
            or message.law is not None
            or message.base != transcript.length + len(tokens)
            or len(tokens) + len(message.tokens) > min(most, MAX_WINDOW, room)
            or len(message.tokens) > held.state.contract.max_window
            or message.digest != digest.extend(transcript.digest, tokens)
        ):
            break
        rounds.append(pending)
        tokens += message.tokens
    return tuple(rounds), tokens


def conclude(ready: Ready, judgement: Judgement, eos_ids: Collection[int], timing: Timing, next_window: int) -> Outcome:
    """Return the verdict of judged rounds, which lets the device draft ``next_window`` tokens. Changes nothing yet."""
    state, acceptance, logprobs = ready.held.state, judgement.acceptance, judgement.logprobs
    first, last = ready.rounds[0], ready.rounds[-1].message
    transcript = state.transcript
    drafting_for_others_ms = 0.0 if ready.wanted else judgement.drafting.ms  # to this session it is a wait
    stop_place = ready.held.stops.place(acceptance.tokens)
    drafted, fed = len(ready.drafted), ready.fed
    if judgement.drafted is not None:
        drafted = fed = judgement.drafted
    kept, reason = settle(state.contract, transcript.generated, acceptance.tokens, eos_ids, stop_place)
    verdict = Verdict(
        session=ready.held.session,
        first_round=first.message.round,
        last_round=last.round,
        branch=last.branch,
        base=transcript.length,
        drafted=drafted,
        accepted=min(acceptance.accepted, len(kept)),
        tokens=kept,
        length=transcript.length + len(kept),
        digest=transcript.digest_after(kept),
        verified=fed + 1,
        queue_us=round(1e6 * (timing.started_s - first.received_s) + 1e3 * drafting_for_others_ms),
        verify_us=round(1e6 * (timing.ended_s - timing.started_s) - 1e3 * drafting_for_others_ms),
        batch_rows=timing.batch_rows,
        max_window=next_window,
        logprobs=None if logprobs is None else logprobs.head(len(kept)),
        prefill=0 if transcript.generated else ready.held.prefill or 0,
    )
    granted = isinstance(last, Decode) and verdict.length < last.end
    if reason is None:
        return Outcome(ready, verdict, not granted, None)
    counts = state.counts.after(verdict)
    receipt = counts.receipt(ready.held.session, reason, verdict.length, verdict.digest)
    return Outcome(ready, verdict, final=True, closed=receipt)
