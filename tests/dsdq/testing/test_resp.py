from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.testing.resp import Splitter, arguments

REPLIES = [b"+OK\r\n", b"-ERR no\r\n", b":7\r\n", b"$3\r\na\r\n\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"$0\r\n\r\n"]


def packed(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


nested = st.recursive(
    st.sampled_from(REPLIES), lambda inner: st.lists(inner, max_size=4).map(lambda p: b"*%d\r\n" % len(p) + b"".join(p))
)


@given(st.lists(nested, max_size=5), st.lists(st.integers(0, 10_000), max_size=8))
def test_messages_come_out_as_they_went_in_however_they_were_cut(messages: list[bytes], cuts: list[int]) -> None:
    splitter = Splitter()
    out = [message for piece in in_pieces(b"".join(messages), cuts) for message in splitter.feed(piece)]
    assert out == messages


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=5))
def test_a_request_gives_its_words(words: list[bytes]) -> None:
    assert arguments(packed(words)) == words


@pytest.mark.parametrize("place", range(len(packed([b"SET", b"k", b"\r\n"]))))
def test_a_message_with_a_part_missing_is_kept(place: int) -> None:
    whole = packed([b"SET", b"k", b"\r\n"])
    splitter = Splitter()
    assert splitter.feed(whole[:place]) == []
    assert splitter.feed(whole[place:]) == [whole]
