from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dsdq.contract import Contract, Rule, Sampling
from dsdq.errors import RefusedError
from dsdq.laws import DraftLaw
from dsdq.wire import Decode, Draft, ErrorCode
from workers.verifier.admission import Offer, check, needed_tokens, object_to

OFFER = Offer(
    "m",
    "r1",
    "f",
    "float32/cpu",
    vocab_size=100,
    context_tokens=200,
    kv_tokens=1000,
    trusted_tenants=frozenset({"own"}),
)
CONTRACT = Contract("acme", "p", "s", "m", "f", max_tokens=50, max_window=8)
PROMPT = (1, 2, 3)
LAW = DraftLaw(np.ones((1, 1), np.uint32), np.ones((1, 1), np.uint16))


@pytest.mark.parametrize(
    "changed",
    [{}, {"target_revision": "r1"}, {"numerics": "float32/cpu"}, {"draft_fingerprint": "f"},
     {"rule": Rule.REJECTION, "trusted": True, "tenant": "own"}, {"sampling": Sampling(logit_bias=((99, 1.0),))},
     {"logprobs": 20, "stop_strings": ("x",)}],
    ids=str,
)  # fmt: skip
def test_what_fits_is_admitted(changed: dict[str, Any]) -> None:
    check(OFFER, replace(CONTRACT, **changed), PROMPT)


@pytest.mark.parametrize(
    ("changed", "code", "named"),
    [
        ({"target": "other"}, ErrorCode.WRONG_TARGET, ["m", "other"]),
        ({"target_revision": "r2"}, ErrorCode.WRONG_TARGET, ["r1", "r2"]),
        ({"numerics": "bfloat16/cuda"}, ErrorCode.WRONG_NUMERICS, ["float32/cpu", "bfloat16/cuda"]),
        ({"tokenizer_fingerprint": "theirs"}, ErrorCode.FINGERPRINT_MISMATCH, ["theirs", "f"]),
        ({"draft_fingerprint": "drafts"}, ErrorCode.FINGERPRINT_MISMATCH, ["drafts", "f"]),
        ({"max_tokens": 190}, ErrorCode.CONTEXT_TOO_LONG, ["200", "3", "190", "8"]),
        ({"sampling": Sampling(logit_bias=((9, 1.0), (100, 1.0)))}, ErrorCode.TERMS_INVALID, ["logit_bias", "100"]),
        ({"rule": Rule.REJECTION}, ErrorCode.UNTRUSTED, ["trusted=False"]),
        ({"rule": Rule.REJECTION, "trusted": True}, ErrorCode.UNTRUSTED, ["acme"]),
        ({"rule": Rule.REJECTION, "tenant": "own"}, ErrorCode.UNTRUSTED, ["trusted=False"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_naming_both_sides(
    changed: dict[str, Any], code: ErrorCode, named: list[str]
) -> None:
    with pytest.raises(RefusedError) as refusal:
        check(OFFER, replace(CONTRACT, **changed), PROMPT)
    assert refusal.value.code == code
    assert all(part in str(refusal.value) for part in named)


@pytest.mark.parametrize("prompt", [(), (1, 100)], ids=str)
def test_a_prompt_that_the_target_cannot_read_is_refused(prompt: tuple[int, ...]) -> None:
    with pytest.raises(RefusedError) as refusal:
        check(OFFER, CONTRACT, prompt)
    assert refusal.value.code == ErrorCode.PROMPT_INVALID


def test_a_session_needs_room_for_its_longest_text_and_one_window() -> None:
    assert needed_tokens(CONTRACT, len(PROMPT)) == 3 + 50 + 8


def draft(tokens: int, law: DraftLaw | None = None) -> Draft:
    return Draft("s", 0, 1, 3, b"d" * 16, (1,) * tokens, law)


@pytest.mark.parametrize(
    ("rule", "message", "code"),
    [
        (Rule.COUPLED, draft(8), None),
        (Rule.COUPLED, draft(9), ErrorCode.WINDOW_TOO_LARGE),
        (Rule.COUPLED, draft(1, LAW), ErrorCode.RULE_LAW_FORBIDDEN),
        (Rule.REJECTION, draft(1), ErrorCode.RULE_LAW_MISSING),
        (Rule.REJECTION, draft(1, LAW), None),
        (Rule.REJECTION, Decode("s", 0, 1, 3, b"d" * 16, 5), None),
    ],
)
def test_a_round_must_keep_its_contract(rule: Rule, message: Draft | Decode, code: ErrorCode | None) -> None:
    objection = object_to(replace(CONTRACT, rule=rule), message)
    assert (objection[0] if objection else None) == code
