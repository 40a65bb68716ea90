"""Rounds that wait together: which are merged into one row, and what their verdict says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsdq import digest
from dsdq.accept import Acceptance
from dsdq.bus.inbox import Entry
from dsdq.bus.sessions import Owned
from dsdq.contract import Contract, FinishReason, Rule
from dsdq.policies.steering import NO_DRAFTS, OwnDraft, OwnDrafts
from dsdq.session import Live, SessionState, Transcript, liveness
from dsdq.stopping import StopFinder
from dsdq.testing.tiny import VOCAB_SIZE
from dsdq.wire import Decode, Draft, pack_contract
from workers.engine.rounds import Drafting, Judgement
from workers.engine.rows import Row
from workers.verifier.held import Held, Pending
from workers.verifier.step import Ready, Timing, conclude, fed_positions, is_superseded, own_drafts, ready_rounds

PROMPT = (5, 9, 12, 7)
CONTRACT = Contract("acme", "phone", "s1", "m", "f", max_tokens=20, max_window=4)
TIMING = Timing(10.0, 10.002, 3)


def held(*messages: Draft | Decode, contract: Contract = CONTRACT) -> Held:
    transcript = Transcript(pack_contract(contract), PROMPT)
    state = SessionState(contract, transcript, 1, "owner")
    session = Held(state, Owned(contract, 1, "owner"), 0.0, StopFinder(None, ()))  # type: ignore[arg-type]
    for number, message in enumerate(messages):
        session.pending.append(Pending(Entry("w1", "acme", f"{number}-0", {}), message, float(number)))
    return session


def draft(round_: int, before: tuple[int, ...], tokens: tuple[int, ...], **changed: Any) -> Draft:
    """Return a draft that believes in ``before`` behind the prompt."""
    text = Transcript(pack_contract(CONTRACT), PROMPT)
    fields = {"branch": 0, "base": len(PROMPT) + len(before), "digest": digest.extend(text.digest, before)}
    return Draft("s1", round=round_, tokens=tokens, **{**fields, **changed})


def ready(session: Held) -> Ready:
    status = liveness(session.state, session.pending[0].message)
    assert isinstance(status, Live)
    return ready_rounds(session, status, VOCAB_SIZE)


def test_windows_that_continue_one_another_become_one_row() -> None:
    session = held(draft(1, (), (1, 2)), draft(2, (1, 2), (3, 4, 5)), draft(3, (1, 2, 3, 4, 5), (6,)))
    merged = ready(session)
    assert merged.drafted == (1, 2, 3, 4, 5, 6)
    assert [pending.message.round for pending in merged.rounds] == [1, 2, 3]
    outcome = conclude(merged, Judgement(Acceptance(4, (1, 2, 3, 4, 9))), (), TIMING, 4)
    verdict = outcome.verdict
    assert (verdict.first_round, verdict.last_round, verdict.drafted, verdict.accepted) == (1, 3, 6, 4)
    assert (verdict.verified, verdict.batch_rows, verdict.verify_us) == (7, 3, 2000)
    assert outcome.final


@pytest.mark.parametrize(
    "second",
    [
        draft(2, (1,), (3,)),
        draft(2, (1, 2), (3,), digest=b"x" * 16),
        draft(2, (1, 2), (1, 2, 3, 4, 5)),
        draft(2, (1, 2, 3), (4,)),
        Decode("s1", 0, 2, 6, digest.extend(Transcript(pack_contract(CONTRACT), PROMPT).digest, (1, 2)), 5),
    ],
    ids=["overlaps", "believes in another text", "is wider than the contract", "leaves a gap", "is a grant"],
)
def test_a_round_that_does_not_simply_continue_waits_for_its_own_turn(second: Draft | Decode) -> None:
    merged = ready(held(draft(1, (), (1, 2)), second))
    assert merged.drafted == (1, 2)
    assert len(merged.rounds) == 1


def test_no_more_is_merged_than_a_window_may_hold() -> None:
    contract = replace(CONTRACT, max_tokens=200)
    windows = [tuple(range(4 * n, 4 * n + 4)) for n in range(20)]
    text = Transcript(pack_contract(contract), PROMPT)
    messages = [
        draft(n + 1, sum(windows[:n], ()), windows[n], digest=digest.extend(text.digest, sum(windows[:n], ())))
        for n in range(20)
    ]
    assert len(ready(held(*messages, contract=contract)).drafted) == 64


def test_no_more_is_merged_than_the_session_was_let_in_for() -> None:
    contract = replace(CONTRACT, max_tokens=6, max_window=4)
    windows = [tuple(range(4 * n, 4 * n + 4)) for n in range(4)]  # of a device that drafts on behind its text's end
    text = Transcript(pack_contract(contract), PROMPT)
    messages = [
        draft(n + 1, sum(windows[:n], ()), windows[n], digest=digest.extend(text.digest, sum(windows[:n], ())))
        for n in range(4)
    ]
    assert len(ready(held(*messages, contract=contract)).drafted) == 8


def test_under_the_rejection_rule_each_window_is_judged_by_itself() -> None:
    contract = replace(CONTRACT, rule=Rule.REJECTION, trusted=True)
    text = Transcript(pack_contract(contract), PROMPT)
    first = draft(1, (), (1, 2), digest=text.digest)
    second = draft(2, (1, 2), (3,), digest=digest.extend(text.digest, (1, 2)))
    assert ready(held(first, second, contract=contract)).drafted == (1, 2)


def test_behind_an_id_that_the_target_does_not_have_nothing_is_fed() -> None:
    merged = ready(held(draft(1, (), (1, VOCAB_SIZE, 2)), draft(2, (1, VOCAB_SIZE, 2), (3,))))
    assert (merged.drafted, merged.fed) == ((1, VOCAB_SIZE), 1)
    assert merged.request.drafted == (1,)


def test_a_text_that_ends_with_a_verdict_is_closed_with_its_counts() -> None:
    session = held(draft(1, (), (1, 2, 3)))
    outcome = conclude(ready(session), Judgement(Acceptance(3, (1, 2, 3, 4))), (2,), TIMING, 4)
    assert outcome.verdict.tokens == (1, 2)
    assert outcome.closed is not None
    assert (outcome.closed.reason, outcome.closed.length, outcome.closed.accepted) == (FinishReason.STOP, 6, 2)


def test_a_grant_is_answered_once_its_budget_is_used() -> None:
    digest_ = Transcript(pack_contract(CONTRACT), PROMPT).digest
    session = held(Decode("s1", 0, 1, 4, digest_, budget=2))
    first = conclude(ready(session), Judgement(Acceptance(0, (8,))), (), TIMING, 4)
    assert not first.final
    session.state.commit(first.verdict, final=False)
    assert conclude(ready(session), Judgement(Acceptance(0, (9,))), (), TIMING, 4).final


@pytest.mark.parametrize(
    ("grants", "superseded"),
    [
        (((4, 6), (5, 6)), True),
        (((4, 6), (5, 5)), True),  # it reaches as far
        (((4, 6), (5, 2)), False),
        (((4, 6),), False),
        (((4, 6), (9, 6)), False),  # from a text that there is not yet
    ],
)
def test_a_later_grant_that_reaches_as_far_takes_the_place_of_an_earlier(
    grants: tuple[tuple[int, int], ...], superseded: bool
) -> None:
    session = held()
    session.state.transcript.extend((7, 8))
    for number, (base, budget) in enumerate(grants, 1):
        digest_ = session.state.transcript.digest_at(base) if base <= 6 else bytes(16)
        message = Decode("s1", 0, number, base, digest_, budget)
        session.pending.append(Pending(Entry("w1", "acme", f"0-{number}", {}), message, 0.0))
    assert is_superseded(session) is superseded


def test_a_draft_behind_a_grant_does_not_take_its_place() -> None:
    session = grant_of(held(), 6, 0)
    session.pending.append(held(draft(2, (), (1,))).pending[0])
    assert not is_superseded(session)


def grant_of(session: Held, budget: int, window: int) -> Held:
    text = session.state.transcript
    message = Decode("s1", 0, 1, text.length, text.digest, budget, window)
    session.pending.append(Pending(Entry("w1", "acme", "0-0", {}), message, 0.0))
    return session


@pytest.mark.parametrize(
    ("budget", "window", "own_window", "wanted"),
    [(9, 3, 8, 3), (9, 8, 8, 4), (9, 3, 2, 2), (3, 3, 8, 2), (1, 3, 8, 0), (9, 0, 8, 0), (9, 3, 0, 0)],
    ids=["as asked", "contract", "what pays", "budget", "last token", "target-only", "does not pay"],
)
def test_the_verifier_drafts_what_grant_contract_and_cost_allow(
    budget: int, window: int, own_window: int, wanted: int
) -> None:
    session = grant_of(held(), budget, window)
    one = ready_rounds(session, Live(()), VOCAB_SIZE, own_window)
    assert (one.wanted, one.fed, len(one.drafted), len(one.judged.drafted)) == (wanted,) * 4
    assert one.request.drafted == (0,) * wanted


def test_near_the_end_of_the_text_it_drafts_no_token_that_could_not_be_committed() -> None:
    session = held()
    session.state.transcript.extend(range(18))
    assert ready_rounds(grant_of(session, 9, 4), Live(()), VOCAB_SIZE, 8).wanted == 1


def test_under_the_rejection_rule_it_decodes_alone() -> None:
    session = held(contract=replace(CONTRACT, rule=Rule.REJECTION, trusted=True))
    assert ready_rounds(grant_of(session, 9, 4), Live(()), VOCAB_SIZE, 8).wanted == 0


def test_a_verdict_counts_what_the_verifier_drafted_and_what_that_took_and_rejects_no_branch() -> None:
    session = grant_of(held(), 9, 4)
    one = ready_rounds(session, Live(()), VOCAB_SIZE, 8)
    judgement = Judgement(Acceptance(1, (7, 8)), drafted=3, drafting=Drafting(0.5, 3))
    verdict = conclude(one, judgement, (), TIMING, 4).verdict
    assert (verdict.drafted, verdict.accepted, verdict.verified, verdict.tokens) == (3, 1, 4, (7, 8))
    assert (verdict.queue_us, verdict.verify_us) == (10_000_000, 2000)
    session.state.commit(verdict, final=False, granted=True)
    assert session.state.branch == 0
    assert session.state.counts.drafted == 3
    others = conclude(ready(held(draft(1, (), (1, 2)))), replace(judgement, drafted=None), (), TIMING, 4).verdict
    assert (others.queue_us, others.verify_us) == (10_000_500, 1500)


def test_windows_are_merged_up_to_what_a_row_may_have_and_later_ones_wait() -> None:
    session = held(draft(1, (), (1, 2)), draft(2, (1, 2), (3, 4)), draft(3, (1, 2, 3, 4), (5, 6)))
    for most, merged in ((64, 6), (5, 4), (4, 4), (1, 2)):
        assert len(ready_rounds(session, Live((1, 2)), VOCAB_SIZE, merged_window=most).drafted) == merged


def test_places_kept_for_drafts_that_were_not_made_are_no_positions_of_a_step() -> None:
    granted = ready_rounds(grant_of(held(), 9, 4), Live(()), VOCAB_SIZE, 8)
    other = Row("acme/s2", 0, (0,) * 7, 0, (1,))
    rows = [Row(granted.held.key, 0, (0,) * 9, 5, (0,)), other]
    drafting = Drafting(0.5, 3)
    judgement = Judgement(Acceptance(2, (7, 8, 9)), drafted=3, drafting=drafting)
    assert fed_positions(rows, [granted], [judgement]) == {granted.held.key: 9 - 1, "acme/s2": 7}
    drafts = {granted.held.key: OwnDraft("acme", wanted=4, drafted=3, accepted=2, committed=3)}
    assert own_drafts([granted], [judgement]) == OwnDrafts(0.5, 3, drafts)


def test_a_grant_for_which_drafting_did_not_pay_is_told_from_one_that_wants_no_drafts() -> None:
    plain = Judgement(Acceptance(0, (7,)))
    unpaid = ready_rounds(grant_of(held(), 9, 4), Live(()), VOCAB_SIZE, 0)
    made = OwnDraft("acme", wanted=0, drafted=0, accepted=0, committed=1)
    assert own_drafts([unpaid], [plain]).of == {unpaid.held.key: made}
    alone = ready_rounds(grant_of(held(), 9, 0), Live(()), VOCAB_SIZE, 8)
    assert own_drafts([alone], [plain]) == NO_DRAFTS


def test_what_devices_drafted_and_a_step_that_only_fed_prompts_are_no_drafts_of_the_verifiers() -> None:
    one = ready(held(draft(1, (), (1, 2))))
    rows = [Row(one.held.key, 2, (0,) * 4, 3, (0,))]
    assert own_drafts([one], [Judgement(Acceptance(2, (1, 2, 3)))]) == NO_DRAFTS
    assert fed_positions(rows, [one], [Judgement(Acceptance(2, (1, 2, 3)))]) == {one.held.key: 4}
    assert own_drafts([], []) == NO_DRAFTS
    assert fed_positions(rows, [], []) == {one.held.key: 4}
