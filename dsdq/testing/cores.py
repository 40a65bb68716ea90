"""Two cores, so that who is measured does not share one with who measures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

DEVICE_CORE, CLOUD_CORE = 0, 1
_OURS = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
"""The cores that this process had when it began: one that runs on one of them may start another on the other."""


@contextmanager
def on_core(core: int) -> Iterator[bool]:
    """Let what is started in the block run on one core; False where there are not two, or they cannot be chosen."""
    pinned = {CLOUD_CORE, DEVICE_CORE} <= _OURS
    before = os.sched_getaffinity(0) if pinned else set()
    if pinned:
        os.sched_setaffinity(0, {core})
    try:
        yield pinned
    finally:
        if pinned:
            os.sched_setaffinity(0, before)
