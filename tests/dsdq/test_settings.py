from __future__ import annotations

import os
import traceback
from pathlib import Path

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


def test_a_secret_may_be_a_file_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "DSDQ_SERVICE_KEY").write_text(2 * HEX + "\n")
    (tmp_path / "DSDQ_REDIS_URL").write_text("redis://dsdq-verifier:of-the-file@redis:6379/0\n")
    monkeypatch.setenv("DSDQ_SECRETS_DIR", str(tmp_path))
    chosen = settings()
    assert chosen.service_key is not None
    assert chosen.service_key.get_secret_value() == bytes.fromhex(2 * HEX)
    assert chosen.redis_url == "redis://dsdq-verifier:of-the-file@redis:6379/0"
    monkeypatch.setenv("DSDQ_REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    assert settings().redis_url == "redis://127.0.0.1:1/0"


def test_a_bad_secret_in_a_file_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "DSDQ_SERVICE_KEY").write_text(HEX)
    monkeypatch.setenv("DSDQ_SECRETS_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match=r"DSDQ_SERVICE_KEY: .*32.*not shown") as refused:
        settings()
    assert HEX[2:14] not in "".join(traceback.format_exception(refused.value))


def test_a_folder_of_secrets_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DSDQ_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"DSDQ_SECRETS_DIR: expected a folder, got .*none"):
        settings()


def test_a_file_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, os.strerror(13), str(path))

    (tmp_path / "DSDQ_SERVICE_KEY").write_text(2 * HEX)
    monkeypatch.setenv("DSDQ_SECRETS_DIR", str(tmp_path))
    monkeypatch.setattr(Path, "read_text", refuse)  # root, as which tests may run, may read anything
    with pytest.raises(ConfigError, match=r"DSDQ_SECRETS_DIR: .*Permission denied: .*DSDQ_SERVICE_KEY"):
        settings()
