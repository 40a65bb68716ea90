from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dsdq import digest

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=20)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "digest.json").read_text())


@given(st.binary(max_size=50), TOKENS, TOKENS)
def test_a_chain_can_be_continued_anywhere(contract: bytes, first: list[int], second: list[int]) -> None:
    whole = digest.prefix_digests(contract, first + second)
    assert whole == [*digest.prefix_digests(contract, first), *digest.chain(whole[len(first)], second)]
    assert digest.extend(whole[len(first)], second) == whole[-1]


@given(st.binary(max_size=50), TOKENS, TOKENS)
def test_different_texts_have_different_digests(contract: bytes, one: list[int], other: list[int]) -> None:
    same = digest.prefix_digests(contract, one)[-1] == digest.prefix_digests(contract, other)[-1]
    assert same == (one == other)


def test_contracts_are_part_of_the_chain() -> None:
    assert digest.prefix_digests(b"a", [1])[-1] != digest.prefix_digests(b"b", [1])[-1]


def test_vectors_of_the_protocol() -> None:
    for vector in VECTORS:
        found = digest.prefix_digests(bytes.fromhex(vector["contract"]), vector["tokens"])
        assert [one.hex() for one in found] == vector["digests"]


def test_one_link_is_blake2b_of_the_digest_before_and_the_token() -> None:
    first = digest.start(b"contract")
    assert digest.extend(first, [258]) == blake2b(first + b"\x02\x01\x00\x00", digest_size=16).digest()
