from __future__ import annotations

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
