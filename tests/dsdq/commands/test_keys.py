"""``dsdq keys``: what it prints is what seals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from dsdq.commands.keys import keys
from dsdq.errors import ConfigError, SealError
from dsdq.sealing import producer_key
from dsdq.settings import settings


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_a_new_secret_is_fresh_and_is_taken_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (CliRunner().invoke(keys, ["new"]).stdout.strip() for _ in range(2))
    assert first != second
    monkeypatch.setenv("DSDQ_TENANT_SECRETS", f"acme={first}")
    assert settings().tenant_secrets["acme"].get_secret_value() == bytes.fromhex(first)


def test_a_producers_key_is_derived_from_its_tenants_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = bytes(range(32))
    monkeypatch.setenv("DSDQ_TENANT_SECRETS", f"acme={secret.hex()}")
    printed = CliRunner().invoke(keys, ["producer", "--tenant", "acme", "--producer", "phone-7"])
    assert printed.stdout.strip() == producer_key(secret, "phone-7").hex()
    monkeypatch.setenv("DSDQ_PRODUCER_KEY", printed.stdout.strip())
    settings.cache_clear()
    assert settings().producer_key is not None


@pytest.mark.parametrize(
    ("tenant", "producer", "error", "expected"),
    [
        ("globex", "phone-7", ConfigError, "DSDQ_TENANT_SECRETS"),
        ("acme", "Phone 7", SealError, "a-z, 0-9"),
    ],
)
def test_who_has_no_key_is_said(
    monkeypatch: pytest.MonkeyPatch, tenant: str, producer: str, error: type[Exception], expected: str
) -> None:
    monkeypatch.setenv("DSDQ_TENANT_SECRETS", f"acme={bytes(range(32)).hex()}")
    ended = CliRunner().invoke(keys, ["producer", "--tenant", tenant, "--producer", producer])
    assert isinstance(ended.exception, error)
    assert expected in str(ended.exception)
