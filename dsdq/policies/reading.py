"""When a device reads ahead in its sessions' logs. Pure."""

from __future__ import annotations

_FAR_MS = 5.0


def is_far(round_trip_ms: float) -> bool:
    """Say whether a read takes long enough for an answer to come behind it: a nearer one is back before the next."""
    return round_trip_ms > _FAR_MS
