"""What a verifier asks of an engine, whatever is inside. Free of torch, so that an engine without it starts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from workers.engine.rounds import Judged, Judgement
from workers.engine.rows import Row


class TargetFacts(Protocol):
    """What contracts are compared with, and devices are told; see :class:`dsdq.models.target.Target`."""

    @property
    def name(self) -> str:
        """Return the name under which devices ask for it."""
        ...

    @property
    def revision(self) -> str:
        """Return what tells apart targets of one name."""
        ...

    @property
    def numerics(self) -> str:
        """Return the names of what decides the bits of its results beside its weights."""
        ...

    @property
    def vocab_size(self) -> int:
        """Return the bound of its token ids."""
        ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Return the ids that end a text; none or several."""
        ...

    @property
    def context_tokens(self) -> int:
        """Return the longest text that it can take."""
        ...


class RoundEngine(Protocol):
    """Verifies rounds of many sessions over a paged KV cache. Not thread-safe: one thread owns it."""

    @property
    def target(self) -> TargetFacts:
        """Return what it serves."""
        ...

    @property
    def kv_blocks(self) -> int:
        """Return how many blocks the KV cache has."""
        ...

    @property
    def kv_tokens(self) -> int:
        """Return how many tokens the KV cache can hold."""
        ...

    @property
    def brief(self) -> bool:
        """Say whether a pass is over sooner than another thread could begin it, and may run on any."""
        ...

    @property
    def drafts(self) -> bool:
        """Say whether it drafts for rounds that want it to (:mod:`workers.engine.colocated`)."""
        ...

    def verify(self, rows: Sequence[Row], rounds: Sequence[Judged], secret: int) -> list[Judgement]:
        """Feed all rows in one pass and return what came of each round.

        Args:
            rows: at most one per session, over blocks that are its own from ``start`` on.
            rounds: one for each row that keeps something, in the order of the rows.
            secret: 64 bits from which the coins of the rejection rule are derived.

        Raises:
            ModelError: a row's positions, tokens or blocks are out of range.
        """
        ...
