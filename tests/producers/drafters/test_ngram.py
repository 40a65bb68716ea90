from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsdq.contract import Contract, Rule
from dsdq.models.tokenizer import Tokenizer
from producers.drafters.ngram import NgramDrafter

CONTRACT = Contract("t", "p", "s", "m", "f")
TOKENIZER = Tokenizer.load("builtin/target")


def propose(text: list[int], window: int = 4) -> tuple[int, ...]:
    return NgramDrafter().start(CONTRACT, TOKENIZER).propose(text, window).tokens


def test_the_continuation_of_the_longest_known_ngram_is_drafted() -> None:
    assert propose([1, 2, 3, 9, 8, 7, 1, 2, 3]) == (9, 8, 7, 1)
    assert propose([5, 3, 4, 1, 2, 3, 6, 0, 2, 3]) == (6, 0, 2, 3)


def test_the_last_occurrence_wins() -> None:
    assert propose([1, 5, 1, 6, 1], 1) == (6,)


def test_nothing_is_drafted_where_nothing_repeats_or_no_window_is_left() -> None:
    assert propose([1, 2, 3]) == ()
    assert propose([1, 1], 0) == ()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 8), st.integers(1, 5))
def test_growing_step_by_step_or_at_once_drafts_the_same(text: list[int], window: int, stride: int) -> None:
    session = NgramDrafter().start(CONTRACT, TOKENIZER)
    for end in range(1, len(text), stride):
        session.propose(text[:end], window)
    tokens = session.propose(text, window).tokens
    assert tokens == propose(text, window)
    assert len(tokens) <= window


def test_under_the_rejection_rule_each_token_is_reported_as_certain() -> None:
    terms = Contract("t", "p", "s", "m", "f", rule=Rule.REJECTION, trusted=True)
    proposal = NgramDrafter().start(terms, TOKENIZER).propose([1, 2, 1], 2)
    assert proposal.law is not None
    assert proposal.law.ids[:, 0].tolist() == list(proposal.tokens)
    assert proposal.law.weights.tolist() == [[1]] * len(proposal.tokens)
