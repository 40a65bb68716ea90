"""Devices are tried against real verifiers."""

from __future__ import annotations

from tests.workers.verifier.conftest import mortal

__all__ = ["mortal"]
