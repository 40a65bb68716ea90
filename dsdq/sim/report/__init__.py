"""Results of simulations as a page with pictures, for people who were not there."""

from __future__ import annotations

from dsdq.sim.report.page import report

__all__ = ["report"]
