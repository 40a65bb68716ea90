from __future__ import annotations

import dataclasses

import msgpack
import numpy as np
import pytest
from hypothesis import given

from dsdq.contract import Contract
from dsdq.errors import WireError
from dsdq.laws import DraftLaw
from dsdq.wire import (
    MAX_MESSAGE_BYTES,
    MAX_OPEN_BYTES,
    Cancel,
    Draft,
    Error,
    Message,
    Open,
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
