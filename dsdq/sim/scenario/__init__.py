"""Scenarios: what they say (:mod:`~dsdq.sim.scenario.model`), and how they are read."""

from __future__ import annotations

from dsdq.sim.scenario.model import Scenario

__all__ = ["Scenario"]
