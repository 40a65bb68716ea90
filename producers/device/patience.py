"""How long a device waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a device waits, in milliseconds.

    For a place where verifiers are full, for an answer before it repeats (at most), for any answer at all, and for the
    whole text (None: for ever).
    """

    open_ms: int
    verdict_ms: int
    give_up_ms: int
    deadline_ms: int | None = None
