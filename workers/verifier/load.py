"""What this verifier's steps and drafts take, and how far it pays to draft therefore. No clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dsdq.contract import MAX_WINDOW
from dsdq.policies.window import DraftCost, StepCost, paying_window
from workers.engine.rounds import Judgement
from workers.engine.rows import Row
from workers.verifier.held import Held
from workers.verifier.step import Ready, Timing


class Load:
    """Running costs of one engine. One that is ``brief`` is not measured: what it takes is not worth a decision."""

    def __init__(self, *, brief: bool) -> None:
        self._brief = brief
        self._step, self._draft = StepCost(), DraftCost()

    def take_in(
        self, rows: Sequence[Row], verified: Sequence[Ready], judgements: Sequence[Judgement], timing: Timing
    ) -> Timing:
        """Take in a step and return its timing with what steps take of late."""
        if self._brief:
            return timing
        drafted = sum(judgement.drafted or 0 for judgement in judgements)
        unused = sum(one.wanted for one in verified) - drafted
        drafting_ms = judgements[0].drafting_ms
        positions = sum(len(row.tokens) for row in rows) - unused
        self._step.add(positions, 1000 * (timing.ended_s - timing.started_s) - drafting_ms)
        self._draft.add(drafted, drafting_ms)
        return replace(timing, step_ms=self._step.step_ms, position_ms=self._step.position_ms)

    def own_window(self, held: Held, waiting: int) -> int:
        """Return how many tokens it pays to draft here for a session, one of so many that wait."""
        step, acceptance = self._step, held.own_acceptance.mean
        return paying_window(step.step_ms, step.position_ms, waiting, acceptance, MAX_WINDOW, self._draft.draft_ms)
