"""Seals: what one device's key makes, no other key makes, and nothing of a message is believed before its seal is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.errors import SealError, WireError
from dsdq.keys import NAME
from dsdq.sealing import (
    KEY_BYTES,
    MAC_BYTES,
    Keyring,
    Seal,
    hkdf,
    is_by,
    is_made_of,
    name_made_of,
    producer_key,
    sealed,
    session_key,
)

SECRET, OTHER = bytes(range(32)), bytes(range(1, 33))
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "seals.json").read_text())

# RFC 5869, appendix A: test cases 1 to 3 (SHA-256).
RFC_5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    ("0b" * 22, "", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
]


@pytest.mark.parametrize(("secret", "salt", "info", "derived"), RFC_5869)
def test_keys_are_derived_as_rfc_5869_says(secret: str, salt: str, info: str, derived: str) -> None:
    come = hkdf(
        bytes.fromhex(secret), salt=bytes.fromhex(salt), info=bytes.fromhex(info), length=len(bytes.fromhex(derived))
    )
    assert come.hex() == derived


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["title"])
def test_keys_and_macs_are_those_of_the_vectors(vector: dict[str, str]) -> None:
    key = producer_key(bytes.fromhex(vector["secret"]), vector["producer"])
    payload = bytes.fromhex(vector["payload"])
    assert key.hex() == vector["producer_key"]
    assert session_key(key, vector["session"]).hex() == vector["session_key"]
    assert sealed(key, vector["producer"], vector["session"], payload).mac.hex() == vector["mac"]


def test_a_message_that_its_producer_sealed_is_taken() -> None:
    key = producer_key(SECRET, "phone-7")
    seal = sealed(key, "phone-7", "s1", b"a draft")
    assert len(key) == KEY_BYTES
    assert len(seal.mac) == MAC_BYTES
    assert is_by(session_key(key, "s1"), seal, b"a draft")


@given(payload=st.binary(max_size=64), place=st.integers(min_value=0), flip=st.integers(1, 255))
def test_no_byte_of_message_or_mac_can_be_changed(payload: bytes, place: int, flip: int) -> None:
    key = producer_key(SECRET, "phone-7")
    seal = sealed(key, "phone-7", "s1", payload)
    both = bytearray(payload + seal.mac)
    both[place % len(both)] ^= flip
    forged = replace(seal, mac=bytes(both[len(payload) :]))
    assert not is_by(session_key(key, "s1"), forged, bytes(both[: len(payload)]))


@pytest.mark.parametrize("made_with", [producer_key(SECRET, "phone-8"), producer_key(OTHER, "phone-7")])
def test_neither_a_sibling_nor_another_tenant_can_seal_for_a_device(made_with: bytes) -> None:
    forged = sealed(made_with, "phone-7", "s1", b"a draft")
    with pytest.raises(SealError, match="phone-7"):
        Keyring({"acme": [SECRET], "globex": [OTHER]}).check("acme", forged, b"a draft")


def test_a_seal_of_one_session_is_none_of_another() -> None:
    seal = sealed(producer_key(SECRET, "phone-7"), "phone-7", "s1", b"a draft")
    with pytest.raises(SealError):
        Keyring({"acme": [SECRET]}).check("acme", replace(seal, session="s2"), b"a draft")


def test_a_key_gives_away_neither_the_secret_nor_other_keys() -> None:
    keys = {producer_key(SECRET, "a"), producer_key(SECRET, "b"), session_key(producer_key(SECRET, "a"), "b")}
    assert len({SECRET, *keys, session_key(SECRET, "a")}) == 5


def test_the_envelope_is_read_from_an_entrys_fields() -> None:
    seal = Seal("phone-7", "s1", bytes(MAC_BYTES))
    assert Seal.read({b"m": b"", b"p": b"phone-7", b"s": b"s1", b"a": bytes(MAC_BYTES)}) == seal
    assert Seal.read({b"m": b"", b"p": b"phone-7"}) is None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({b"a": None}, "MAC of 16 bytes, got none"),
        ({b"a": b"short"}, "MAC of 16 bytes, got 5"),
        ({b"p": None}, "producer of 1 to 64"),
        ({b"p": b"x" * 65}, "producer of 1 to 64"),
        ({b"p": b"\xff"}, "producer of 1 to 64"),
        ({b"s": None}, "session of 1 to 64"),
        ({b"s": b"{x}"}, "session of 1 to 64"),
        ({b"s": b"y" * 1_000_000}, "session of 1 to 64"),
    ],
)
def test_half_a_seal_or_one_that_names_nobody_is_refused(changed: dict[bytes, bytes | None], expected: str) -> None:
    fields = {b"p": b"phone-7", b"s": b"s1", b"a": bytes(MAC_BYTES)} | changed
    with pytest.raises(SealError, match=expected) as refused:
        Seal.read({name: value for name, value in fields.items() if value is not None})
    assert len(str(refused.value)) < 500


@given(st.dictionaries(st.sampled_from([b"p", b"s", b"a", b"m"]), st.binary(max_size=70)))
def test_whatever_the_fields_hold_nothing_but_the_projects_error_comes(fields: dict[bytes, bytes]) -> None:
    try:
        seal = Seal.read(fields)
    except SealError:
        return
    assert seal is None or Seal.read({b"p": seal.producer.encode(), b"s": seal.session.encode(), b"a": seal.mac})


def test_a_tenant_with_a_secret_must_seal() -> None:
    keyring = Keyring({"acme": [SECRET]})
    assert keyring.must_seal("acme")
    assert not keyring.must_seal("globex")
    with pytest.raises(SealError, match="globex"):
        keyring.check("globex", Seal("phone-7", "s1", bytes(MAC_BYTES)), b"")


def test_while_a_secret_is_changed_either_will_do_and_afterwards_the_new_one_alone() -> None:
    old, new = (sealed(producer_key(secret, "phone-7"), "phone-7", "s1", b"x") for secret in (SECRET, OTHER))
    keyring = Keyring({"acme": [SECRET]})
    keyring.check("acme", old, b"x")
    keyring.hold({"acme": [OTHER, SECRET]})
    for seal in (old, new, old):
        keyring.check("acme", seal, b"x")
    keyring.hold({"acme": [OTHER]})
    keyring.check("acme", new, b"x")
    with pytest.raises(SealError, match="expected the MAC"):
        keyring.check("acme", old, b"x")


def test_a_keyring_keeps_the_keys_of_the_sessions_in_use_and_of_no_made_up_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    derived: list[str] = []

    def counted(key: bytes, session: str) -> bytes:
        derived.append(session)
        return session_key(key, session)

    key, keyring = producer_key(SECRET, "phone-7"), Keyring({"acme": [SECRET]}, kept=2)
    monkeypatch.setattr("dsdq.sealing.session_key", counted)
    seals = {name: sealed(key, "phone-7", name, b"x") for name in ("a", "b", "c")}
    derived.clear()
    for name in ("a", "b", "a", "b"):
        keyring.check("acme", seals[name], b"x")
    assert derived == ["a", "b"]
    with pytest.raises(SealError):
        keyring.check("acme", replace(seals["c"], mac=bytes(MAC_BYTES)), b"x")
    derived.clear()
    keyring.check("acme", seals["a"], b"x")
    assert derived == []
    keyring.check("acme", seals["c"], b"x")  # pushes out "b", unused for longest
    keyring.check("acme", seals["a"], b"x")
    keyring.check("acme", seals["b"], b"x")
    assert derived == ["c", "b"]


def test_a_seal_that_is_wrong_is_not_answered_like_a_malformed_message() -> None:
    assert not issubclass(SealError, WireError)


def test_a_keyring_does_not_show_its_secrets() -> None:
    assert repr(SECRET)[2:-1] not in repr(Keyring({"acme": [SECRET]}))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_made_name_is_shown_by_its_own_secret_alone(secret: bytes, other: bytes) -> None:
    name = name_made_of(secret, "phone")
    assert NAME.fullmatch(name)
    assert is_made_of(name, secret)
    assert is_made_of(name, other) == (secret == other)
    assert not is_made_of("phone", secret)


def test_a_label_that_leaves_no_room_is_refused() -> None:
    assert len(name_made_of(bytes(32), "p" * 37)) == 64
    for label in ("p" * 38, "é", "Phone"):
        with pytest.raises(SealError):
            name_made_of(bytes(32), label)
    assert not is_made_of("a" * 50 + "-x", bytes(32))
