"""Tenants' records: documents that say what they mean, or are refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.errors import ConfigError, DeniedError
from dsdq.tenants import Limits, Tenant, fresh_key

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NAMES = st.from_regex("[a-z0-9-]{1,64}", fullmatch=True)
LIMITS = st.builds(Limits, **dict.fromkeys(Limits.model_fields, st.none() | st.integers(1, 1 << 50)))


@given(NAMES, st.floats(0.001, 1e6), st.booleans(), LIMITS)
def test_a_record_is_read_as_it_was_written(name: str, weight: float, enabled: bool, limits: Limits) -> None:
    record = Tenant(
        name=name,
        created=NOW,
        weight=weight,
        enabled=enabled,
        limits=limits,
        keys=(fresh_key(name)[1],),
        secrets=("00",),
    )
    assert Tenant.read(record.write()) == record


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", "document"),
        (b"\xff", "document"),
        (b"[]", "document"),
        (b'{"name": "Acme", "created": "2026-01-02T00:00:00Z"}', "name"),
        (b'{"name": "acme", "created": "2026-01-02T00:00:00Z", "weight": 0}', "weight"),
        (b'{"name": "acme", "created": "2026-01-02T00:00:00Z", "limits": {"sessions": -1}}', "limits.sessions"),
        (b'{"name": "acme", "created": "2026-01-02T00:00:00Z", "colour": "red"}', "colour"),
    ],
)
def test_what_is_no_record_is_refused_with_where_it_goes_wrong(document: bytes, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"tenant record: {expected}"):
        Tenant.read(document)


def test_a_key_is_a_tenants_while_its_record_has_it_and_it_is_enabled() -> None:
    (old, old_record), (new, new_record) = fresh_key("acme"), fresh_key("acme")
    record = Tenant(name="acme", created=NOW, keys=(new_record, old_record))
    record.check_key(old)
    record.check_key(new)
    with pytest.raises(DeniedError, match="rotated"):
        record.model_copy(update={"keys": (new_record,)}).check_key(old)
    with pytest.raises(DeniedError, match="disabled"):
        record.model_copy(update={"enabled": False}).check_key(new)


def test_a_record_shows_no_secret() -> None:
    assert "feed" not in repr(Tenant(name="acme", created=NOW, secrets=("feed",)))
