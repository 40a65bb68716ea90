"""Receipts: what was agreed, seen and closed proves itself, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq import digest
from dsdq.contract import Contract, FinishReason
from dsdq.errors import ConfigError, SessionError
from dsdq.receipts import Receipt, Signer, Tally, is_signed, total_of
from dsdq.session import Counts
from dsdq.wire import Closed, Decode, Draft, Verdict, pack_contract

SIGNER, OTHER = Signer(bytes(range(32))), Signer(bytes(32))
CONTRACT = pack_contract(Contract("acme", "phone", "s1", "m", "f"))
PROMPT, TOKENS = (1, 2, 3, 4), (5, 6, 7)
COUNTS = Counts(rounds=2, drafted=4, accepted=1, verified=6, prefill=3)


def a_receipt(signer: Signer | None = SIGNER, counts: Counts = COUNTS) -> Receipt:
    text = digest.extend(digest.start(CONTRACT), (*PROMPT, *TOKENS))
    closed = counts.receipt("s1", FinishReason.LENGTH, len(PROMPT) + len(TOKENS), text)
    return Receipt(CONTRACT, PROMPT, TOKENS, counts, closed if signer is None else signer.sign(closed))


def test_a_receipt_that_says_what_was_seen_has_no_problem_and_outlives_being_written() -> None:
    receipt = Receipt.read(a_receipt().write())
    assert receipt == a_receipt()
    assert receipt.problems(SIGNER.public_key) == []
    assert receipt.problems(None) == []
    assert receipt.tenant == "acme"
    assert "\n" not in receipt.write()


def test_one_that_nobody_signed_is_taken_only_where_no_key_is_asked_for() -> None:
    assert a_receipt(None).problems(None) == []
    assert "signature" in a_receipt(None).problems(SIGNER.public_key)[0]
    assert "signature" in a_receipt(OTHER).problems(SIGNER.public_key)[0]


CHANGES: dict[str, Callable[[Receipt], Receipt]] = {
    "a token more": lambda one: replace(one, tokens=(*one.tokens, 8)),
    "a token less": lambda one: replace(one, tokens=one.tokens[:-1]),
    "another token": lambda one: replace(one, tokens=(*one.tokens[:-1], 9)),
    "another prompt": lambda one: replace(one, prompt=(9, *one.prompt[1:])),
    "another contract": lambda one: replace(one, contract=pack_contract(Contract("globex", "phone", "s1", "m", "f"))),
    "more verified than was seen": lambda one: replace(one, closed=SIGNER.sign(replace(one.closed, verified=7))),
    "more rounds than were seen": lambda one: replace(one, closed=SIGNER.sign(replace(one.closed, rounds=3))),
    "figures changed afterwards": lambda one: replace(
        one, counts=replace(one.counts, verified=5), closed=replace(one.closed, verified=5)
    ),
    "the session changed": lambda one: replace(one, closed=replace(one.closed, session="s2")),
    "the reason changed": lambda one: replace(one, closed=replace(one.closed, reason=FinishReason.STOP)),
    "another's signature": lambda one: replace(one, closed=replace(OTHER.sign(one.closed), key=one.closed.key)),
    "no signature": lambda one: replace(one, closed=replace(one.closed, signature=b"")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_forged_or_shortened_receipt_proves_nothing(change: Callable[[Receipt], Receipt]) -> None:
    assert change(a_receipt()).problems(SIGNER.public_key)


def test_no_more_of_a_prompt_can_have_been_fed_than_there_is() -> None:
    counts = replace(COUNTS, prefill=4)  # the last token is fed with the first round
    assert "expected at most 3 prompt tokens" in a_receipt(counts=counts).problems(None)[0]


@given(st.binary(max_size=80))
def test_any_bytes_are_a_receipt_or_an_error_that_says_what_was_expected(line: bytes) -> None:
    with pytest.raises(ConfigError, match="receipt"):
        Receipt.read(line.decode(errors="replace"))


@given(st.sampled_from(["contract", "prompt", "tokens", "counts", "closed"]), st.none() | st.text() | st.integers())
def test_a_line_with_a_part_that_is_something_else_is_refused_or_proves_nothing(part: str, value: object) -> None:
    line = json.dumps(json.loads(a_receipt().write()) | {part: value})
    try:
        problems = Receipt.read(line).problems(None)
    except ConfigError as error:
        problems = [str(error)]
    assert problems


def test_a_signature_is_of_these_figures_by_this_key() -> None:
    closed = a_receipt().closed
    assert is_signed(closed, SIGNER.public_key)
    assert not is_signed(closed, OTHER.public_key)
    assert not is_signed(replace(closed, key=bytes(32)), bytes(32))
    assert SIGNER.sign(closed) == closed


def test_receipts_add_up_to_what_a_bill_may_say() -> None:
    assert total_of([a_receipt(), a_receipt()]) == {
        "sessions": 2,
        "committed": 6,
        "accepted": 2,
        "rejected": 6,
        "verified": 12,
        "prefill": 6,
    }


def a_verdict(first: int, last: int, drafted: int, verified: int, length: int = 9) -> Verdict:
    return Verdict("s1", first, last, 0, 8, drafted, 0, (1,), length, bytes(16), verified, 0, 0, 1, 8)


def test_a_client_counts_no_more_than_it_asked_for() -> None:
    tally = Tally(8)
    tally.asked(Draft("s1", 0, 1, 8, bytes(16), (1, 2, 3)))
    tally.asked(Draft("s1", 0, 2, 11, bytes(16), (4, 5)))
    tally.asked(Decode("s1", 0, 3, 13, bytes(16), 9, 4))
    tally.add(a_verdict(1, 2, 5, 6))
    tally.add(a_verdict(3, 3, 4, 5))
    assert tally.counts == Counts(2, 9, 0, 11)
    for verdict in (a_verdict(1, 2, 6, 7), a_verdict(1, 1, 3, 5), a_verdict(3, 3, 5, 6), a_verdict(4, 4, 1, 2)):
        with pytest.raises(SessionError, match="expected at most"):
            tally.add(verdict)
    tally.add(a_verdict(4, 4, 0, 1))  # the target's own token


def test_what_redis_lost_is_not_counted() -> None:
    tally = Tally(8)
    tally.asked(Draft("s1", 0, 1, 8, bytes(16), (1, 2, 3)))
    tally.add(a_verdict(1, 1, 1, 2, length=9))
    tally.add(a_verdict(1, 1, 2, 3, length=12))
    tally.rewind(11)
    assert tally.counts == Counts(1, 1, 0, 2)
    tally.rewind(8)
    assert tally.counts == Counts()


def test_a_closed_message_without_a_key_is_as_it_was_before_there_were_any() -> None:
    assert Closed("s1", FinishReason.STOP, 1, bytes(16), 1, 1, 1, 1).signature == b""
