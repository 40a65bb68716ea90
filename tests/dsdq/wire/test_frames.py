"""Frames between devices and gateways: their bytes, and that no bytes do harm."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.errors import WireError
from dsdq.keys import NAME
from dsdq.sealing import is_made_of, producer_key, proof_of
from dsdq.wire import frames
from dsdq.wire.frames import (
    AskWorkers,
    Challenge,
    Close,
    Done,
    Entry,
    Follow,
    Followed,
    Frame,
    Hello,
    Publish,
    Refused,
    RefusedCode,
    Unfollow,
    Welcome,
    Workers,
    pack_frame,
    unpack_frame,
)
from dsdq.wire.limits import MAX_COUNT, MAX_MESSAGE_BYTES, MAX_OPEN_BYTES
from tests.dsdq.wire.test_vectors import plain

ROOT = Path(__file__).parents[3]
VECTORS = json.loads((ROOT / "tests" / "vectors" / "frames.json").read_text())
NAMES = st.from_regex(NAME, fullmatch=True)
IDS, COUNTS = st.integers(1, MAX_COUNT), st.integers(0, MAX_COUNT)
TEXTS = st.text(st.characters(codec="ascii", exclude_categories=("C", "Z")), min_size=1, max_size=100)
SIXTEEN, SECRETS = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
KEYS = st.just("") | TEXTS
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Challenge, SIXTEEN),
    st.builds(Hello, NAMES, KEYS, SECRETS, st.just(b"")),
    st.builds(Hello, NAMES, KEYS, st.just(b""), SIXTEEN),
    st.builds(Welcome, NAMES, COUNTS, COUNTS, COUNTS),
    st.builds(AskWorkers, IDS, st.just("") | TEXTS),
    st.builds(Workers, IDS, st.lists(st.binary(min_size=1, max_size=300), max_size=5).map(tuple)),
    st.builds(Publish, IDS, NAMES, st.binary(min_size=1, max_size=300), st.just(b"") | SIXTEEN),
    st.builds(Done, IDS),
    st.builds(Follow, IDS, NAMES, COUNTS, COUNTS),
    st.builds(Followed, IDS, COUNTS, st.just("") | NAMES),
    st.builds(Unfollow, NAMES),
    st.builds(Entry, NAMES, COUNTS, COUNTS, st.binary(min_size=1, max_size=300)),
    st.builds(Refused, IDS, st.sampled_from(RefusedCode).map(str), TEXTS, st.integers(0, 1 << 39)),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary(max_size=40) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers(0, 20), inner, max_size=3),
    max_leaves=8,
)
MAPS = st.fixed_dictionaries(
    {0: st.just(1) | VALUES, 1: st.integers(60, 80)}, optional=dict.fromkeys(range(2, 7), VALUES)
).map(msgpack.packb)


@given(FRAMES)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    assert unpack_frame(pack_frame(frame)) == frame


@given(st.binary(max_size=200) | MAPS | FRAMES.flatmap(lambda frame: cut_or_changed(pack_frame(frame))))
def test_any_bytes_are_a_frame_or_a_wire_error(data: bytes) -> None:
    try:
        frame = unpack_frame(data)
    except WireError:
        return
    assert unpack_frame(pack_frame(frame)) == frame


def cut_or_changed(data: bytes) -> st.SearchStrategy[bytes]:
    place = st.integers(0, len(data) - 1)
    changed = st.tuples(place, st.binary(max_size=2)).map(lambda at: data[: at[0]] + at[1] + data[at[0] + 1 :])
    return changed | place.map(lambda end: data[:end])


@pytest.mark.parametrize(
    "frame",
    [
        Publish(1, "w", bytes(MAX_OPEN_BYTES + 1)),
        Entry("s", 1, 1, bytes(MAX_MESSAGE_BYTES + 1)),
        Workers(1, (b"x",) * 65),
        Workers(1, (bytes(4097),)),
        Follow(0, "s", 0, 0),
        Follow(1, "S", 0, 0),
        Hello("p"),
        Hello("p", "", bytes(32), bytes(16)),
        Hello("p", "k" * 257, bytes(32)),
    ],
    ids=repr,
)
def test_what_breaks_a_limit_does_not_leave(frame: Frame) -> None:
    with pytest.raises(WireError):
        pack_frame(frame)


def test_a_publication_of_the_largest_open_fits() -> None:
    frame = Publish(MAX_COUNT, "w" * 64, bytes(MAX_OPEN_BYTES), bytes(16))
    assert unpack_frame(pack_frame(frame)) == frame


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_frame_of_the_vectors(vector: dict[str, Any]) -> None:
    frame = unpack_frame(bytes.fromhex(vector["bytes"]))
    assert type(frame).__name__.lower() == vector["type"]
    assert plain(frame) == vector["fields"]
    assert pack_frame(frame).hex() == vector["bytes"]


def test_every_kind_of_frame_has_a_vector() -> None:
    assert {vector["type"] for vector in VECTORS} == {layout.title for layout in frames._LAYOUTS}


def test_the_protocol_lists_every_code_and_no_other() -> None:
    section = (ROOT / "PROTOCOL.md").read_text().split("## 10.")[1]
    closes = {int(code) for code in re.findall(r"^\| (\d{4})", section, flags=re.MULTILINE)}
    refusals = set(re.findall(r"^\| `([a-z_]+)` \|", section, flags=re.MULTILINE))
    assert closes == {int(close) for close in Close} | {1009, 1011}
    assert refusals == set(RefusedCode)


def test_hellos_of_the_vectors_show_who_says_them() -> None:
    fields = {vector["name"]: vector["fields"] for vector in VECTORS}
    made, proved = fields["hello-secret"], fields["hello-proof-and-key"]
    assert is_made_of(made["producer"], bytes.fromhex(made["secret"]))
    key = producer_key(b"0123456789abcdef", proved["producer"])
    assert proof_of(key, bytes.fromhex(fields["challenge"]["nonce"])).hex() == proved["proof"]


def test_versions_of_frames_are_not_those_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "VERSION", 7)
    data = pack_frame(Done(1))
    assert unpack_frame(data) == Done(1)
    monkeypatch.setattr(frames, "VERSION", 8)
    with pytest.raises(WireError, match="version 7 is not spoken here, only 8"):
        unpack_frame(data)
