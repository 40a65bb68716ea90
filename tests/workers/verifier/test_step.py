"""From a judged round to its verdict: what is committed, what it says of likelihoods, when the text ends."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from dsdq.accept import Acceptance
from dsdq.bus.inbox import Entry
from dsdq.bus.sessions import Owned
from dsdq.contract import Contract, FinishReason
from dsdq.logprobs import TokenLogprobs
from dsdq.models.tokenizer import Tokenizer
from dsdq.session import SessionState, Transcript
from dsdq.stopping import StopFinder
from dsdq.wire import Draft
from workers.verifier.held import Held, Pending
from workers.verifier.step import Ready, Timing, conclude

TOKENIZER = Tokenizer.load("builtin/target")
PROMPT = (5, 6)


def held(**changed: Any) -> Held:
    terms = Contract("t", "p", "s", "m", "f", **changed)
    state = SessionState(terms, Transcript(b"contract", PROMPT), 1, "owner")
    return Held(state, cast("Owned", None), 0.0, StopFinder(TOKENIZER.stream(), terms.stop_strings))


def concluded(session: Held, tokens: list[int], logprobs: TokenLogprobs | None = None) -> Any:
    text = session.state.transcript
    message = Draft("s", 0, 1, text.length, text.digest, tuple(tokens[:-1]))
    pending = Pending(cast("Entry", None), message, 0.0)
    ready = Ready(session, pending, message.tokens, None, len(message.tokens))
    return conclude(ready, pending, Acceptance(len(tokens) - 1, tuple(tokens)), (), Timing(1.0, 2.0, 1), logprobs)


def test_a_verdict_ends_with_the_token_that_completes_a_stop_string() -> None:
    tokens = TOKENIZER.encode("return x\n\n\ndef f(y):")
    session = held(stop_strings=("\n\n",))
    outcome = concluded(session, tokens)
    kept = list(outcome.verdict.tokens)
    assert "\n\n" in TOKENIZER.decode(kept)
    assert "\n\n" not in TOKENIZER.decode(kept[:-1])
    assert tokens[: len(kept)] == kept
    assert outcome.closed.reason is FinishReason.STOP
    assert outcome.verdict.accepted == len(kept)


def test_a_stop_string_may_begin_in_an_earlier_verdict_but_not_in_the_prompt() -> None:
    first, *rest = TOKENIZER.encode("return")
    stop = TOKENIZER.decode([first, *rest, *TOKENIZER.encode(" x")])
    assert concluded(held(stop_strings=(stop,)), TOKENIZER.encode(" x")).closed is None
    session = held(stop_strings=(stop,))
    session.stops.extend([first, *rest])
    assert concluded(session, TOKENIZER.encode(" x")).closed.reason is FinishReason.STOP


def test_nothing_changes_before_the_commit() -> None:
    session = held(stop_strings=("\n\n",))
    tokens = TOKENIZER.encode("a\n")
    for _ in range(3):
        assert concluded(session, tokens).closed is None


@pytest.mark.parametrize(("most", "kept"), [(10, 3), (2, 2)])
def test_the_log_probabilities_are_those_of_the_tokens_that_are_committed(most: int, kept: int) -> None:
    said = TokenLogprobs(
        np.array([-1, -2, -3], np.float32),
        np.array([[7], [8], [9]], np.uint32),
        np.array([[-1], [-2], [-3]], np.float32),
    )
    verdict = concluded(held(max_tokens=most), [7, 8, 9], said).verdict
    assert verdict.logprobs == said.head(kept)
    assert concluded(held(), [7, 8, 9]).verdict.logprobs is None
