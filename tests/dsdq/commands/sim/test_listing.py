"""`dsdq sim list`."""

from __future__ import annotations

from dsdq.sim.scenario import presets, profiles
from tests.dsdq.commands.sim.conftest import Simulate


def test_all_presets_and_profiles_are_listed(dsdq: Simulate) -> None:
    said = dsdq("list")
    assert [name for name in (*presets(), *profiles()) if name not in said] == []
    assert "arXiv 2511.21669" in " ".join(said.split())
