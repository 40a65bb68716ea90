"""Which version of the protocol two sides agree on."""

from __future__ import annotations

import pytest

from dsdq import versions
from dsdq.contract import Contract
from dsdq.versions import agreed
from dsdq.wire import Cancel, pack, pack_contract, unpack, unpack_contract


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speak as the next release will."""
    monkeypatch.setattr(versions, "SPOKEN", (1, 2))


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    ("others", "version"),
    [([(1, 2), (1, 2)], 2), ([(1, 2), (1,)], 1), ([(2, 3)], 2), ([(3,)], None), ([(1,), (2,)], None), ([], 2)],
)
def test_the_newest_version_that_all_speak_is_agreed_on(others: list[tuple[int, ...]], version: int | None) -> None:
    assert agreed(others) == version


def test_a_contract_keeps_the_version_that_it_was_packed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dsdq.wire", "dsdq.wire.terms"):
        monkeypatch.setattr(f"{module}.SPOKEN", (1, 2))
    for version in (1, 2):
        contract = Contract("acme", "phone", "s1", "m", "f", version=version)
        assert unpack_contract(pack_contract(contract)) == contract


def test_a_message_says_its_version_and_means_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dsdq.wire", "dsdq.wire.terms"):
        monkeypatch.setattr(f"{module}.SPOKEN", (1, 2))
    one, two = (pack(Cancel("s1"), version) for version in (1, 2))
    assert one != two
    assert unpack(one) == unpack(two) == Cancel("s1")
