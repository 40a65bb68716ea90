"""Results of simulations as a page with pictures, for people who were not there."""

from __future__ import annotations

from dsdq.sim.report.page import report
from dsdq.sim.report.reading import Result, read

__all__ = ["Result", "read", "report"]
