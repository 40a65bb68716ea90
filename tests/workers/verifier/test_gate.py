"""The gate: nobody speaks for another."""

from __future__ import annotations

import pytest

from dsdq.errors import SealError
from dsdq.sealing import Keyring, Seal, producer_key, sealed
from workers.verifier.gate import check_speaker, examine

SECRET = bytes(range(32))
KEYRING = Keyring({"acme": [SECRET]})


def entry(payload: bytes, seal: Seal | None) -> dict[bytes, bytes]:
    fields = {b"m": payload, b"p": b"phone-7"}
    if seal is None:
        return fields
    return fields | {b"p": seal.producer.encode(), b"s": seal.session.encode(), b"a": seal.mac}


def by(producer: str, session: str = "s1", payload: bytes = b"a draft") -> Seal:
    return sealed(producer_key(SECRET, producer), producer, session, payload)


def test_a_sealed_message_passes_and_its_seal_is_known() -> None:
    seal = by("phone-7")
    assert examine(entry(b"a draft", seal), "acme", KEYRING) == seal


def test_a_tenant_with_a_secret_is_not_heard_without_a_seal() -> None:
    with pytest.raises(SealError, match="DSDQ_PRODUCER_KEY"):
        examine(entry(b"a draft", None), "acme", KEYRING)


def test_a_forged_message_does_not_pass() -> None:
    with pytest.raises(SealError, match="expected the MAC"):
        examine(entry(b"another draft", by("phone-7")), "acme", KEYRING)
    with pytest.raises(SealError, match="expected the MAC"):
        examine({b"p": b"phone-7", b"s": b"s1", b"a": by("phone-7").mac}, "acme", KEYRING)


def test_a_tenant_without_a_secret_is_heard_with_and_without_a_seal() -> None:
    assert examine(entry(b"a draft", None), "globex", KEYRING) is None
    assert examine(entry(b"a draft", by("phone-7")), "globex", KEYRING) is None


def test_a_device_cannot_speak_in_its_siblings_session_with_its_own_key() -> None:
    seal = examine(entry(b"a draft", by("phone-8", "s1")), "acme", KEYRING)
    with pytest.raises(SealError, match=r"producer phone-7 .*one of producer phone-8"):
        check_speaker(seal, "s1", "phone-7")


def test_a_seal_of_one_session_opens_no_other() -> None:
    with pytest.raises(SealError, match=r"session s2.*session s1"):
        check_speaker(by("phone-7", "s1"), "s2", "phone-7")


def test_a_device_may_speak_in_its_own_session_and_anybody_where_no_seal_is_needed() -> None:
    check_speaker(by("phone-7", "s1"), "s1", "phone-7")
    check_speaker(None, "s1", "phone-7")
