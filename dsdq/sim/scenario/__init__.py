"""Scenarios: what they say (:mod:`~dsdq.sim.scenario.model`), and how they are read and written."""

from __future__ import annotations

from dsdq.sim.scenario.library import Profile, presets, profiles
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.scenario.reading import load_scenario
from dsdq.sim.scenario.writing import to_toml

__all__ = ["Profile", "Scenario", "load_scenario", "presets", "profiles", "to_toml"]
