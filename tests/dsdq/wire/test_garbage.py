"""Any bytes give a message or a WireError, and never cost more memory than their own length suggests."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dsdq.errors import WireError
from dsdq.wire import (
    MAX_MESSAGE_BYTES,
    MAX_OPEN_BYTES,
    Cancel,
    Error,
    ErrorCode,
    Message,
    answer_to,
    pack,
    unpack,
    unpack_contract,
)
from tests.dsdq.wire.strategies import MESSAGES

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(), inner))
KEYS = st.integers(0, 30) | st.text(max_size=2)


def is_message_or_wire_error(data: bytes) -> bool:
    with contextlib.suppress(WireError):
        unpack_contract(data)
    answer: Message | None
    try:
        answer = unpack(data)
    except WireError as error:
        answer = answer_to(data, error)
    return answer is None or unpack(pack(answer)) == answer


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xc1")
@example(b"\xde")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\x91" * 5000)
@example(b"\x81\x00" * 5000)
def test_any_bytes(data: bytes) -> None:
    assert is_message_or_wire_error(data)


@given(st.dictionaries(KEYS, VALUES, max_size=20), st.sampled_from([1, 1, 1, 2, -1, None]), st.integers(0, 10) | VALUES)
def test_any_map(fields: dict[Any, Any], version: object, code: object) -> None:
    try:
        data = msgpack.packb({**fields, 0: version, 1: code})
    except (ValueError, OverflowError):
        return
    assert is_message_or_wire_error(data)


@given(MESSAGES, st.data())
def test_a_message_with_one_field_replaced_by_anything(message: Message, data: st.DataObject) -> None:
    fields = msgpack.unpackb(pack(message), strict_map_key=False)
    key = data.draw(st.sampled_from(sorted(fields)))
    fields[key] = data.draw(VALUES)
    try:
        packed = msgpack.packb(fields)
    except (ValueError, OverflowError):
        return
    assert is_message_or_wire_error(packed)


@given(MESSAGES, st.data())
def test_a_message_with_a_byte_changed_or_cut_off(message: Message, data: st.DataObject) -> None:
    packed = bytearray(pack(message))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] = data.draw(st.integers(0, 255))
    assert is_message_or_wire_error(bytes(packed))
    assert is_message_or_wire_error(bytes(packed[:place]))


def test_a_key_that_repeats_is_refused_because_readers_differ_in_which_one_wins() -> None:
    with pytest.raises(WireError, match="repeated"):
        unpack(b"\x84\x00\x01\x01\x05\x02\xa1a\x02\xa1b")


@pytest.mark.parametrize(
    "header",
    [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"],
    ids=["array", "map", "bin", "str"],
)
def test_a_length_that_is_not_there_allocates_nothing(header: bytes) -> None:
    data = b"\x83\x00\x01\x01\x03\x07" + header
    tracemalloc.start()
    with pytest.raises(WireError):
        unpack(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20


def test_deep_nesting_is_refused_cheaply() -> None:
    data = b"\x83\x00\x01\x01\x01\x07" + b"\x91" * (MAX_OPEN_BYTES - 100) + b"\x00"
    with pytest.raises(WireError):
        unpack(data)


def test_bytes_beyond_the_bound_are_not_even_looked_at() -> None:
    with pytest.raises(WireError, match=str(MAX_OPEN_BYTES)):
        unpack(b"\x80" + b"\x00" * MAX_OPEN_BYTES)
    padded = msgpack.packb({0: 1, 1: 5, 2: "s", 60: b"x" * MAX_MESSAGE_BYTES})
    with pytest.raises(WireError, match=f"cancel.*{MAX_MESSAGE_BYTES}"):
        unpack(padded)


@pytest.mark.parametrize("version", [0, 2, 99, -1, True, "1", None, 1.0])
def test_an_unknown_version_is_refused_and_answered_where_it_names_a_session(version: object) -> None:
    data = msgpack.packb({0: version, 1: 5, 2: "some-session"})
    with pytest.raises(WireError, match="version") as refusal:
        unpack(data)
    answer = answer_to(data, refusal.value)
    assert isinstance(answer, Error)
    known = type(version) is int
    assert answer.code == (ErrorCode.UNSUPPORTED_VERSION if known else ErrorCode.MALFORMED)


def test_extension_types_are_refused() -> None:
    with pytest.raises(WireError):
        unpack(b"\x83\x00\x01\x01\x05\x02" + b"\xc7\x01\x05x")
    with pytest.raises(WireError):
        unpack(msgpack.packb({0: 1, 1: 5, 2: msgpack.ExtType(5, b"x" * 10)}))


def test_floats_that_are_no_numbers_are_refused() -> None:
    fields = {0: 1, 1: 32, **dict.fromkeys(range(2, 22), ""), 10: struct.unpack("<d", b"\0\0\0\0\0\0\xf8\x7f")[0]}
    with pytest.raises(WireError):
        unpack_contract(msgpack.packb(fields))


def test_a_cancel_of_another_kind_of_session_is_refused() -> None:
    with pytest.raises(WireError, match="session"):
        pack(Cancel("a:b"))
