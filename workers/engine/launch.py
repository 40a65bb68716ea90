"""Was this process started as one of several that serve one model? Free of torch, which takes seconds to import."""

from __future__ import annotations

import os
from collections.abc import Mapping

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The variables that a launcher sets for each of them."""


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether torchrun, or something that sets the same variables, started this process as one of several."""
    return all(name in environment for name in TORCHRUN) and environment["WORLD_SIZE"] != "1"


def follows(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this process is one of several and not the first."""
    return launched(environment) and environment["RANK"] != "0"
