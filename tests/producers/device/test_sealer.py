"""A device seals in its own name, with the key that it was given."""

from __future__ import annotations

import pytest
from pydantic import SecretBytes

from dsdq.errors import ConfigError
from dsdq.sealing import Keyring, producer_key
from dsdq.settings import Settings
from producers.device.sealer import Sealer

SECRET = bytes(range(32))
KEY = producer_key(SECRET, "phone-7")


def test_what_a_device_seals_its_workers_take() -> None:
    seal = Sealer("phone-7", KEY).seal("s1", b"a draft")
    assert seal is not None
    Keyring({"acme": [SECRET]}).check("acme", seal, b"a draft")


def test_a_repeated_message_has_the_same_seal() -> None:
    sealer = Sealer("phone-7", KEY)
    assert sealer.seal("s1", b"a draft") == sealer.seal("s1", b"a draft")


def test_without_a_key_nothing_is_sealed() -> None:
    assert Sealer("phone-7").seal("s1", b"a draft") is None


def test_a_device_is_named_by_its_program_else_by_its_settings_else_by_chance() -> None:
    assert Sealer.of(Settings(producer="phone-7"), "laptop").producer == "laptop"
    assert Sealer.of(Settings(producer="phone-7")).producer == "phone-7"
    assert Sealer.of(Settings()).producer != Sealer.of(Settings()).producer


def test_a_key_is_used_in_the_name_that_it_was_made_for_only() -> None:
    given = Settings(producer="phone-7", producer_key=SecretBytes(KEY))
    assert Sealer.of(given).seal("s1", b"x") == Sealer("phone-7", KEY).seal("s1", b"x")
    for chosen, producer in ((given, "laptop"), (Settings(producer_key=SecretBytes(KEY)), None)):
        with pytest.raises(ConfigError, match="DSDQ_PRODUCER_KEY"):
            Sealer.of(chosen, producer)


def test_a_key_of_another_length_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match="expected 32 bytes, got 5"):
        Sealer("phone-7", b"short")
