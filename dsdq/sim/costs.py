"""What a step of a simulated verifier takes: the model that ``dsdq sim calibrate`` fits. Pure."""

from __future__ import annotations

import math
from random import Random

from dsdq.sim.scenario.model import Verifiers


class StepTimes:
    """Milliseconds of steps and drafts, from a scenario's figures."""

    __slots__ = (
        "_context_ms",
        "_draft_position_ms",
        "_draft_step_ms",
        "_position_ms",
        "_prefill_ms",
        "_row_ms",
        "_spread",
        "_step_ms",
    )

    def __init__(self, verifiers: Verifiers) -> None:
        self._step_ms, self._row_ms = verifiers.step_ms, verifiers.row_ms
        self._position_ms, self._context_ms = verifiers.position_ms, verifiers.context_ms_per_1k / 1000
        given_ms = verifiers.prefill_ms
        self._prefill_ms = verifiers.position_ms if given_ms is None else given_ms
        self._spread = math.sqrt(math.log1p(verifiers.variation**2))
        draft = verifiers.draft
        self._draft_step_ms = draft.step_ms if draft else 0.0
        self._draft_position_ms = draft.position_ms if draft else 0.0

    def step_ms(self, rows: int, positions: int, context: int, prefill: int = 0) -> float:
        """Return what a pass takes over ``positions`` of so many rows, whose texts have ``context`` tokens in all.

        Of the positions, ``prefill`` only feed prompts.
        """
        fed_ms = self._position_ms * (positions - prefill) + self._prefill_ms * prefill
        return self._step_ms + self._row_ms * rows + fed_ms + self._context_ms * context

    def longer(self, luck: Random) -> float:
        """Return how many times longer than that a step takes, by luck; 1 on average."""
        return luck.lognormvariate(-(self._spread**2) / 2, self._spread) if self._spread else 1.0

    def draft_ms(self, wanted: list[int]) -> float:
        """Return what drafting takes, one pass for each place, over the rows that still want a token."""
        places = max(wanted, default=0)
        return places * self._draft_step_ms + self._draft_position_ms * sum(wanted)
