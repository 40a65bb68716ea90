from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdq.telemetry.figures import Snapshot, unpack

ONE = Snapshot(
    worker="w1",
    model="builtin/target",
    uptime_s=12.5,
    ttl_ms=6000,
    kv_blocks=8,
    kv_held=2,
    accepted_rounds=(3, 2, 1),
    ended={"stop": 2},
    tenants={"acme": 7, "globex": 1},
)


def test_what_is_packed_is_read_again() -> None:
    assert unpack(ONE.pack()) == ONE
    assert unpack(replace(ONE, age_s=3.0).pack()) == ONE  # its age is known to its reader only


def test_fields_that_are_not_known_are_passed_over_and_missing_ones_have_their_default() -> None:
    found = msgpack.unpackb(ONE.pack())
    del found["ended"]
    assert unpack(msgpack.packb(found | {"colour": "green"})) == replace(ONE, ended={})


@pytest.mark.parametrize(
    "changed", [{"v": 2}, {"steps": "many"}, {"tenants": {"acme": "x"}}, {"tenants": [1]}, {"row_counts": [1.5]}]
)
def test_another_version_or_what_no_verifier_writes_is_none(changed: dict[str, object]) -> None:
    assert unpack(msgpack.packb(msgpack.unpackb(ONE.pack()) | changed)) is None


@given(st.binary(max_size=200))
def test_any_bytes(packed: bytes) -> None:
    assert unpack(packed) is None


def test_derived_figures() -> None:
    assert ONE.kv_usage == 0.25
    assert ONE.accepted_at == [3, 1]
    assert Snapshot().kv_usage == 0
