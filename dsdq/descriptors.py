"""How many files and connections a process may have open."""

from __future__ import annotations

import resource


def raise_limit() -> int:
    """Let this process have as many open as it may have, and return how many; the usual 1,024 are soon reached."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):  # a system may not let one have what it says
        return now
    return most
