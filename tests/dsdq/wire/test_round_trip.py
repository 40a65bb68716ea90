from __future__ import annotations

import dataclasses

import msgpack
import numpy as np
import pytest
from hypothesis import given

from dsdq.contract import MAX_BIASES, Contract, Sampling
from dsdq.errors import WireError
from dsdq.laws import DraftLaw
from dsdq.logprobs import TokenLogprobs
from dsdq.wire import (
    MAX_MESSAGE_BYTES,
    MAX_OPEN_BYTES,
    Cancel,
    Draft,
    Error,
    Message,
    Open,
    Verdict,
    pack,
    pack_contract,
    unpack,
    unpack_contract,
)
from tests.dsdq.wire.strategies import CONTRACTS, MESSAGES

DRAFT = Draft("s", 0, 1, 5, b"d" * 16, (1, 2, 3))


@given(MESSAGES)
def test_what_is_packed_is_unpacked_the_same_within_its_bound(message: Message) -> None:
    data = pack(message)
    assert unpack(data) == message
    assert len(data) <= (MAX_OPEN_BYTES if isinstance(message, Open) else MAX_MESSAGE_BYTES)
    assert pack(unpack(data)) == data


@given(CONTRACTS)
def test_a_contract_is_unpacked_the_same(contract: Contract) -> None:
    assert unpack_contract(pack_contract(contract)) == contract


@given(CONTRACTS)
def test_a_term_that_is_not_known_is_refused_unless_only_the_names_are_wanted(contract: Contract) -> None:
    fields = msgpack.unpackb(pack_contract(contract), strict_map_key=False)
    later = msgpack.packb({**fields, 60: b"later"})
    with pytest.raises(WireError, match=r"known here.*key 60"):
        unpack_contract(later)
    assert unpack_contract(later, with_unknown=True) == contract
    assert unpack(pack(Open(contract.session, later, (1,)))) == Open(contract.session, later, (1,))


def test_terms_that_change_nothing_take_no_bytes() -> None:
    plain = Contract("t", "p", "s", "m", "f")
    assert max(msgpack.unpackb(pack_contract(plain), strict_map_key=False)) == 21
    off = dataclasses.replace(plain, sampling=Sampling(repetition_penalty=1, presence_penalty=-0.0))
    assert pack_contract(off) == pack_contract(plain)


def test_biases_are_what_float32_holds_so_that_equal_terms_are_equal_bytes() -> None:
    near = [
        Contract("t", "p", "s", "m", "f", sampling=Sampling(logit_bias=((5, value),))) for value in (0.1, 0.1 + 1e-12)
    ]
    assert near[0] == near[1]
    assert pack_contract(near[0]) == pack_contract(near[1])


def test_the_most_that_biases_and_stop_strings_may_be_travels_and_more_is_said() -> None:
    biases = tuple((1 << 30 | token, 0.5) for token in range(MAX_BIASES))
    terms = Contract("t", "p", "s", "m", "f", sampling=Sampling(logit_bias=biases), stop_strings=("ß" * 128,) * 16)
    assert unpack_contract(pack_contract(terms)) == terms
    with pytest.raises(WireError, match="contract: expected at most 8192 bytes"):
        pack_contract(dataclasses.replace(terms, stop_strings=("🦊" * 128,) * 16))


def test_a_stop_string_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(WireError, match="stop_strings"):
        pack_contract(Contract("t", "p", "s", "m", "f", stop_strings=("\udc80",)))


@given(MESSAGES)
def test_fields_of_a_later_version_are_ignored(message: Message) -> None:
    fields = msgpack.unpackb(pack(message), strict_map_key=False)
    assert unpack(msgpack.packb({**fields, 60: b"later", 61: [1, 2], 62: {1: 2}})) == message


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"session": "Not A Name"}, "session"),
        ({"round": 0}, "round"),
        ({"base": -1}, "base"),
        ({"digest": b"short"}, "digest"),
        ({"tokens": (1,) * 65}, "tokens"),
        ({"tokens": (-1,)}, "tokens"),
        ({"tokens": (2**31,)}, "tokens"),
        ({"tokens": [1]}, "tokens"),
        ({"law": DraftLaw(np.zeros((3, 1), np.uint32), np.zeros((3, 1), np.uint16))}, "law"),
        ({"law": DraftLaw(np.zeros((2, 1), np.uint32), np.ones((2, 1), np.uint16))}, "law"),
        ({"law": DraftLaw(np.zeros((3, 65), np.uint32), np.ones((3, 65), np.uint16))}, "law"),
    ],
)
def test_a_message_that_cannot_travel_is_refused_before_it_leaves(changed: dict[str, object], named: str) -> None:
    with pytest.raises(WireError, match=named):
        pack(dataclasses.replace(DRAFT, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "logprobs",
    [
        TokenLogprobs(np.zeros(2, np.float32), np.zeros((1, 3), np.uint32), np.zeros((1, 3), np.float32)),
        TokenLogprobs(np.zeros(2, np.float32), np.zeros((2, 21), np.uint32), np.zeros((2, 21), np.float32)),
        TokenLogprobs(np.ones(2, np.float32), np.zeros((2, 1), np.uint32), np.zeros((2, 1), np.float32)),
        TokenLogprobs(np.full(2, -np.inf, np.float32), np.zeros((2, 1), np.uint32), np.zeros((2, 1), np.float32)),
        TokenLogprobs(np.zeros(1, np.float32), np.zeros((1, 1), np.uint32), np.zeros((1, 1), np.float32)),
    ],
    ids=["rows differ", "too many", "above 0", "not finite", "not one for each token"],
)
def test_log_probabilities_that_do_not_fit_their_verdict_are_refused(logprobs: TokenLogprobs) -> None:
    verdict = Verdict("s", 1, 1, 0, 5, 1, 1, (8, 9), 7, b"d" * 16, 2, 0, 0, 1, 8, logprobs)
    with pytest.raises(WireError, match=r"log-probabilities|finite|top ids"):
        pack(verdict)


def test_an_errors_sentence_always_leaves_cut_and_cleaned() -> None:
    said = unpack(pack(Error("s", "internal", "a\nb" + "x" * 5000)))
    assert isinstance(said, Error)
    assert said.message.startswith("a b")
    assert len(said.message) == 512


def test_an_open_whose_contract_names_another_session_is_refused() -> None:
    terms = pack_contract(Contract("t", "p", "one", "m", "f"))
    with pytest.raises(WireError, match="one"):
        pack(Open("other", terms, (1,)))


def test_two_byte_ids_stay_two_bytes() -> None:
    narrow, wide = dataclasses.replace(DRAFT, tokens=(65_535,) * 9), dataclasses.replace(DRAFT, tokens=(65_536,) * 9)
    assert len(pack(wide)) - len(pack(narrow)) == 18


def test_a_cancel_is_a_few_bytes() -> None:
    assert len(pack(Cancel("s" * 26))) < 40
