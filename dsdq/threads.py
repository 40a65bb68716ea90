"""How many threads may wait for work, and how."""

from __future__ import annotations

import os

_OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


def share_cores() -> None:
    """Let idle OpenMP threads wait some microseconds for the next operation, then sleep. Call before torch is imported.

    Waking them for each of a small model's operations would double its time; spinning on would take the cores from
    other processes. Variables that are already set stay as they are.
    """
    for name, value in _OPENMP.items():
        os.environ.setdefault(name, value)
