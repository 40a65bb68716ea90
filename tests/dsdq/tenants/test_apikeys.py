"""API keys: what is kept of one gives it away to nobody, and no other passes for it."""

from __future__ import annotations

import pytest

from dsdq.errors import DeniedError
from dsdq.tenants import fresh_key, owner_of


def test_a_key_is_found_by_its_record_and_nothing_else_is() -> None:
    text, record = fresh_key("acme")
    other, _ = fresh_key("acme")
    assert record.is_of(text)
    assert not record.is_of(other)
    assert not record.is_of(text[:-1])
    assert owner_of(text) == "acme"


def test_a_record_does_not_hold_the_key() -> None:
    text, record = fresh_key("acme")
    stored = record.model_dump_json()
    assert text not in stored
    assert text.rpartition("_")[2] not in stored
    assert record.digest not in repr(record)


@pytest.mark.parametrize("text", ["", "sk-123", "dsdq_acme_00_11", "dsdq_Acme_00000000_" + "0" * 64, "x" * 100_000])
def test_what_has_not_the_form_of_a_key_is_denied_and_not_shown(text: str) -> None:
    with pytest.raises(DeniedError, match="expected dsdq_<tenant>_<id>_<secret>") as denied:
        owner_of(text)
    assert len(str(denied.value)) < 200
