"""Secrets at rest: nobody reads or moves one without the service's key."""

from __future__ import annotations

import pytest

from dsdq.errors import ConfigError
from dsdq.tenants import unwrap, wrap

KEY, OTHER, SECRET = bytes(range(32)), bytes(32), b"a secret of thirty-two bytes ..."


def test_a_secret_is_read_with_the_key_that_wrapped_it() -> None:
    wrapped = wrap(KEY, "acme", SECRET)
    assert unwrap(KEY, "acme", wrapped) == SECRET
    assert SECRET.hex() not in wrapped
    assert wrap(KEY, "acme", SECRET) != wrapped


@pytest.mark.parametrize(
    ("key", "tenant", "change"),
    [
        (OTHER, "acme", lambda text: text),
        (KEY, "globex", lambda text: text),
        (KEY, "acme", lambda text: text[:-2]),
        (KEY, "acme", lambda text: text[:-1] + ("0" if text[-1] != "0" else "1")),
        (KEY, "acme", lambda _: ""),
        (KEY, "acme", lambda _: "no hex"),
    ],
    ids=["another key", "another tenant", "shortened", "changed", "empty", "no hex"],
)
def test_no_other_way_reads_it(key: bytes, tenant: str, change: object) -> None:
    with pytest.raises(ConfigError, match="DSDQ_SERVICE_KEY"):
        unwrap(key, tenant, change(wrap(KEY, "acme", SECRET)))  # type: ignore[operator]
