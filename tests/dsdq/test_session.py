"""The state machine that device and verifier share: what a round means, what a verdict changes, when a text ends."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq import digest
from dsdq.contract import Contract, FinishReason
from dsdq.errors import SessionError
from dsdq.session import (
    Ahead,
    Counts,
    Duplicate,
    Live,
    SessionState,
    Stale,
    Transcript,
    check_verdict,
    liveness,
    replay,
    settle,
)
from dsdq.wire import Closed, Decode, Draft, Gap, Message, Open, Opened, Verdict, pack_contract

CONTRACT = Contract("t", "p", "s", "m", "f", max_tokens=20, stop_ids=(9,))
PROMPT = (1, 2, 3)


def state(committed: tuple[int, ...] = (), **changed: Any) -> SessionState:
    transcript = Transcript(b"contract", PROMPT)
    transcript.extend(committed)
    return SessionState(CONTRACT, transcript, 1, "owner", **changed)


def draft(held: SessionState, base: int, tokens: tuple[int, ...], **changed: Any) -> Draft:
    fields = {"session": "s", "branch": 0, "round": 1, "base": base, "tokens": tokens}
    return Draft(**{**fields, "digest": held.transcript.digest_at(base), **changed})


def verdict(held: SessionState, tokens: tuple[int, ...], **changed: Any) -> Verdict:
    length = held.transcript.length + len(tokens)
    fields = {
        "session": "s", "first_round": 1, "last_round": 1, "branch": 0, "base": held.transcript.length, "drafted": 0,
        "accepted": 0, "tokens": tokens, "length": length, "digest": held.transcript.digest_after(tokens),
        "verified": 1, "queue_us": 0, "verify_us": 0, "batch_rows": 1, "max_window": 8,
    }  # fmt: skip
    return Verdict(**{**fields, **changed})


# Transcript


TOKENS = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(st.lists(st.tuples(st.sampled_from(["try", "commit", "cut"]), TOKENS)))
def test_digests_are_those_of_the_text_whatever_was_tried_before(steps: list[tuple[str, tuple[int, ...]]]) -> None:
    transcript = Transcript(b"contract", PROMPT)
    for step, tokens in steps:
        whole = digest.prefix_digests(b"contract", (*transcript.tokens, *tokens))
        if step == "try":
            assert transcript.digest_after(tokens) == whole[-1]
        elif step == "commit":
            transcript.extend(tokens)
        else:
            transcript.truncate(max(len(PROMPT), transcript.length - len(tokens)))
        whole = digest.prefix_digests(b"contract", transcript.tokens)
        assert [transcript.digest_at(length) for length in range(transcript.length + 1)] == whole


def test_a_transcript_names_each_of_its_prefixes() -> None:
    transcript = Transcript(b"contract", PROMPT)
    transcript.extend([4, 5])
    assert transcript.digest == digest.prefix_digests(b"contract", [1, 2, 3, 4, 5])[-1]
    assert [transcript.digest_at(n) for n in range(6)] == digest.prefix_digests(b"contract", [1, 2, 3, 4, 5])
    assert (transcript.length, transcript.generated, list(transcript.tokens)) == (5, 2, [1, 2, 3, 4, 5])


# Liveness


def test_a_round_at_the_end_of_the_text_is_live() -> None:
    held = state((4,))
    assert liveness(held, draft(held, 4, (5, 6))) == Live((5, 6))


def test_a_round_whose_first_tokens_were_committed_since_is_live_with_the_rest() -> None:
    held = state((4, 5))
    assert liveness(held, draft(held, 3, (4, 5, 6))) == Live((6,))


def test_a_round_that_was_wholly_committed_since_still_asks_for_the_next_token() -> None:
    held = state((4, 5))
    assert liveness(held, draft(held, 3, (4, 5))) == Live(())
    assert liveness(held, draft(held, 3, (4,))) == Live(())


def test_a_round_whose_overlap_differs_is_stale() -> None:
    held = state((4, 5))
    assert liveness(held, draft(held, 3, (4, 7, 6))) == Stale()


def test_a_round_after_another_text_is_stale() -> None:
    held = state((4, 5))
    assert liveness(held, draft(held, 5, (6,), digest=b"x" * 16)) == Stale()


def test_a_round_inside_the_prompt_is_stale() -> None:
    held = state()
    assert liveness(held, draft(held, 2, (3,))) == Stale()


def test_a_round_beyond_the_text_is_ahead_unless_its_branch_was_rejected() -> None:
    held = state(branch=1)
    late = Draft("s", 1, 1, 9, b"y" * 16, (1,))
    assert liveness(held, late) == Ahead()
    assert liveness(held, dataclasses.replace(late, branch=0)) == Stale()


def test_a_round_that_has_its_verdict_is_a_duplicate() -> None:
    held = state((4,), answered=3)
    assert liveness(held, draft(held, 4, (5,), round=3)) == Duplicate()
    assert liveness(held, draft(held, 4, (5,), round=4)) == Live((5,))


def test_a_grant_is_live_until_its_budget_is_used() -> None:
    held = state((4, 5))
    grant = Decode("s", 0, 1, 3, held.transcript.digest_at(3), budget=3)
    assert liveness(held, grant) == Live(())
    assert liveness(held, dataclasses.replace(grant, budget=2)) == Stale()


@given(st.lists(st.integers(0, 3), max_size=6), st.integers(0, 10), st.lists(st.integers(0, 3), max_size=6))
def test_whatever_is_live_continues_the_text(committed: list[int], base: int, tokens: list[int]) -> None:
    held = state(tuple(committed))
    named = held.transcript.digest_at(base) if base <= held.transcript.length else b"?" * 16
    status = liveness(held, Draft("s", 0, 1, base, named, tuple(tokens)))
    if isinstance(status, Live):
        believed = [*list(held.transcript.tokens)[:base], *tokens]
        shorter = min(len(believed), held.transcript.length)
        assert believed[:shorter] == list(held.transcript.tokens)[:shorter]
        assert list(status.tokens) == believed[held.transcript.length :]


# Commit


def test_a_verdict_moves_text_round_and_counts() -> None:
    held = state()
    held.commit(verdict(held, (4, 5), drafted=2, accepted=1, verified=3), final=True)
    assert list(held.transcript.tokens) == [1, 2, 3, 4, 5]
    assert (held.answered, held.branch) == (1, 1)
    assert (held.counts.rounds, held.counts.drafted, held.counts.accepted, held.counts.verified) == (1, 2, 1, 3)


@pytest.mark.parametrize(
    ("answered", "accepted", "granted", "counts"),
    [(0, 1, False, 1), (2, 1, False, 3), (2, 1, True, 2), (2, 2, False, 2)],
)
def test_a_branch_counts_until_it_is_rejected_or_given_up(
    answered: int, accepted: int, granted: bool, counts: int
) -> None:
    held = state()
    held.commit(verdict(held, (4, 5), drafted=2, accepted=accepted, branch=answered), final=True, granted=granted)
    assert held.branch == counts


def test_a_verdict_within_a_grant_does_not_answer_it() -> None:
    held = state()
    held.commit(verdict(held, (4,)), final=False)
    assert held.answered == 0


# Stopping


@pytest.mark.parametrize(
    ("generated", "tokens", "kept", "reason"),
    [
        (0, (4, 5), (4, 5), None),
        (0, (4, 9, 5), (4, 9), FinishReason.STOP),
        (0, (4, 7, 5), (4, 7), FinishReason.STOP),
        (18, (4, 5, 6), (4, 5), FinishReason.LENGTH),
        (18, (4, 9, 6), (4, 9), FinishReason.STOP),
        (19, (4,), (4,), FinishReason.LENGTH),
    ],
)
def test_tokens_behind_a_stop_are_not_committed(
    generated: int, tokens: tuple[int, ...], kept: tuple[int, ...], reason: FinishReason | None
) -> None:
    assert settle(CONTRACT, generated, tokens, {7}) == (kept, reason)


def test_the_targets_end_of_text_can_be_ignored_but_a_stop_id_cannot() -> None:
    terms = dataclasses.replace(CONTRACT, ignore_eos=True)
    assert settle(terms, 0, (7, 4), {7}) == ((7, 4), None)
    assert settle(terms, 0, (9, 4), {7}) == ((9,), FinishReason.STOP)


@pytest.mark.parametrize(
    ("tokens", "place", "kept", "reason"),
    [
        ((4, 5, 6), 1, (4, 5), FinishReason.STOP),
        ((4, 9, 6), 2, (4, 9), FinishReason.STOP),
        ((4, 5, 6), 2, (4, 5), FinishReason.LENGTH),
        ((4, 5), 1, (4, 5), FinishReason.STOP),
    ],
)
def test_the_token_that_completes_a_stop_string_is_the_last_unless_the_text_ends_before(
    tokens: tuple[int, ...], place: int, kept: tuple[int, ...], reason: FinishReason
) -> None:
    assert settle(CONTRACT, 18, tokens, {7}, place) == (kept, reason)


# The device's check


def test_a_device_takes_a_verdict_that_continues_its_text() -> None:
    held = state()
    mine = Transcript(b"contract", PROMPT)
    check_verdict(mine, verdict(held, (4, 5)))
    assert list(mine.tokens) == [1, 2, 3, 4, 5]


def test_a_verdict_elsewhere_or_with_another_digest_ends_the_session() -> None:
    held = state((4,))
    with pytest.raises(SessionError) as elsewhere:
        check_verdict(Transcript(b"contract", PROMPT), verdict(held, (5,)))
    assert elsewhere.value.code == "log_corrupt"
    with pytest.raises(SessionError) as other:
        check_verdict(Transcript(b"another contract", (*PROMPT, 4)), verdict(held, (5,)))
    assert other.value.code == "digest_mismatch"


# Replay


def log_of(held: SessionState, texts: list[tuple[int, ...]], noise: list[int]) -> tuple[Open, list[Message]]:
    """Commit ``texts`` to the session, and return its opening and its log, with what changes no text in between."""
    packed = pack_contract(CONTRACT)
    held.transcript = Transcript(packed, PROMPT)
    opened = Opened("s", "w", 1, "n", "r", 3, held.transcript.digest, 8, 64)
    messages: list[Message] = [opened]
    for number, tokens in enumerate(texts):
        given = verdict(held, tokens, drafted=len(tokens), accepted=len(tokens) - 1, last_round=number + 1)
        held.commit(given, final=True)
        messages.append(given)
        if number in noise:
            messages += [Gap("s", held.transcript.length), dataclasses.replace(opened, worker="w2", epoch=2)]
    return Open("s", packed, PROMPT), messages


@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=5).map(tuple), max_size=6),
    st.lists(st.integers(0, 5)),
)
def test_a_log_replayed_is_the_session_that_wrote_it(texts: list[tuple[int, ...]], noise: list[int]) -> None:
    held = state()
    opening, messages = log_of(held, texts, noise)
    contract, transcript, counts = replay(opening, messages)
    assert contract == CONTRACT
    assert list(transcript.tokens) == list(held.transcript.tokens)
    assert transcript.digest == held.transcript.digest
    assert transcript.prompt_tokens == len(PROMPT)
    assert counts == held.counts


def test_a_replay_ends_with_the_receipts_counts() -> None:
    held = state()
    opening, messages = log_of(held, [(4, 5), (6,)], [])
    closed = Closed("s", FinishReason.STOP, 6, held.transcript.digest, 2, 3, 1, 2)
    _, _, counts = replay(opening, [*messages, closed])
    assert counts == Counts(closed.rounds, closed.drafted, closed.accepted, closed.verified)


def test_a_log_with_a_hole_or_a_changed_token_is_not_replayed() -> None:
    opening, messages = log_of(state(), [(4, 5), (6,), (7,)], [])
    for broken in ([messages[0], *messages[2:]], [dataclasses.replace(messages[1], tokens=(4, 9)), *messages[2:]]):
        with pytest.raises(SessionError):
            replay(opening, broken)
