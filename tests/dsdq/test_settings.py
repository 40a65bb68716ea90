from __future__ import annotations

import traceback

import pytest

from dsdq.errors import ConfigError
from dsdq.settings import Settings, settings


@pytest.fixture(autouse=True)
def _forget() -> object:
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_a_variable_of_the_environment_sets_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSDQ_SLOTS", "3")
    monkeypatch.setenv("DSDQ_TENANTS", "a, b")
    assert settings().slots == 3
    assert settings().tenants == ("a", "b")


def test_a_bad_value_names_the_variable_and_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSDQ_SLOTS", "many")
    with pytest.raises(ConfigError, match=r"DSDQ_SLOTS.*many"):
        settings()


def test_each_process_has_a_secret_of_its_own_unless_one_is_given() -> None:
    assert Settings().server_secret != Settings().server_secret


def test_names_stand_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSDQ_TRUSTED_TENANTS", "acme")
    assert settings().trusted_tenants == ("acme",)


HEX = "00112233445566778899aabbccddeeff"


def test_secrets_are_given_in_hexadecimal_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSDQ_TENANT_SECRETS", f"acme={HEX}, globex={HEX}00")
    monkeypatch.setenv("DSDQ_PRODUCER", "phone-7")
    monkeypatch.setenv("DSDQ_PRODUCER_KEY", 2 * HEX)
    monkeypatch.setenv("DSDQ_ACL_PASSWORDS", f"dsdq-verifier={HEX}=,")
    monkeypatch.setenv("DSDQ_SERVER_SECRET", HEX)
    chosen = settings()
    assert chosen.tenant_secrets["globex"].get_secret_value() == bytes.fromhex(HEX + "00")
    assert chosen.producer_key is not None
    assert chosen.producer_key.get_secret_value() == bytes.fromhex(2 * HEX)
    assert chosen.acl_passwords["dsdq-verifier"].get_secret_value() == HEX + "="
    shown = repr(chosen) + str(chosen)
    assert HEX not in shown
    assert repr(bytes.fromhex(HEX))[2:-1] not in shown


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DSDQ_TENANT_SECRETS", HEX, "NAME=VALUE"),
        ("DSDQ_TENANT_SECRETS", f"acme={HEX},acme={HEX}00", "each name once"),
        ("DSDQ_TENANT_SECRETS", f"acme={HEX},globex={HEX}", "of its own"),
        ("DSDQ_TENANT_SECRETS", f"acme={HEX[:-2]}", "acme: expected at least 16 bytes"),
        ("DSDQ_TENANT_SECRETS", f"acme={HEX[:-1]}g", "hexadecimal"),
        ("DSDQ_TENANT_SECRETS", f"ACME={HEX}", "a-z, 0-9"),
        ("DSDQ_PRODUCER_KEY", HEX, "32"),
        ("DSDQ_PRODUCER_KEY", 2 * HEX[:-1], "32"),
        ("DSDQ_PRODUCER_KEY", 2 * HEX[:-1] + "yy", "hexadecimal"),
        ("DSDQ_ACL_PASSWORDS", f"dsdq-verifier={HEX[:15]}", "16 characters"),
        ("DSDQ_SERVER_SECRET", HEX[:15], "16 characters"),
    ],
)
def test_a_bad_secret_is_named_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}: .*{expected}.*not shown") as refused:
        settings()
    written = "".join(traceback.format_exception(refused.value))
    assert HEX[2:14] not in written
    assert "221133" not in written
