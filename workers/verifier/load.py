"""What this verifier's steps and drafts take, and how far it pays to draft therefore. No clock of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsdq.contract import MAX_WINDOW
from dsdq.policies.batching import linger_s
from dsdq.policies.fairness import Prices
from dsdq.policies.window import Acceptance, DraftCost, StepCost, best_window, paying_window, widest_window
from workers.engine.rounds import Judgement
from workers.engine.rows import Row
from workers.verifier.held import Held
from workers.verifier.step import Ready, Timing

RECENT = 0.1  # weight of the newest step in moving averages
MOST_IDLE = 4.0  # times the step: a long pause says little of how the next ones will be


class Load:
    """Running costs of one engine. One that is ``brief`` is not measured: nobody has to save what it takes.

    A step takes at most ``step_tokens``.
    """

    def __init__(self, step_tokens: int, *, brief: bool) -> None:
        self._step_tokens, self._brief = step_tokens, brief
        self._step, self._draft = StepCost(), DraftCost()
        self._own_acceptance = Acceptance()  # of all sessions together
        self._idle_ms = 0.0
        self._row_positions = 1.0

    def take_in(
        self,
        rows: Sequence[Row],
        verified: Sequence[Ready],
        judgements: Sequence[Judgement],
        timing: Timing,
        idle_s: float = 0.0,
    ) -> None:
        """Take in a step, before which nothing was done for ``idle_s``."""
        if self._brief:
            return
        took_s, drafting = timing.took_s, judgements[0].drafting
        drafts = [judgement.drafted for judgement in judgements if judgement.drafted]
        unused = sum(one.wanted for one in verified) - sum(drafts)
        positions = sum(len(row.tokens) for row in rows) - unused
        self._step.add(positions, 1000 * took_s - drafting.ms)
        self._draft.add(drafting.positions, max(drafts, default=0), drafting.ms)
        for judgement in judgements:
            if judgement.drafted:
                tokens = judgement.acceptance.tokens
                self._own_acceptance.add(judgement.drafted, judgement.acceptance.accepted, len(tokens))
        self._idle_ms += RECENT * (1000 * min(idle_s, MOST_IDLE * took_s) - self._idle_ms)
        self._row_positions += RECENT * (positions / len(rows) - self._row_positions)

    def parts_ms(
        self, rows: Sequence[Row], verified: Sequence[Ready], judgements: Sequence[Judgement], timing: Timing
    ) -> dict[str, float]:
        """Return what each session had of a step's time: by what rows and positions take, and tokens drafted here."""
        positions = {row.session: len(row.tokens) for row in rows}
        drafted = dict[str, int]()
        for one, judgement in zip(verified, judgements, strict=True):
            if judgement.drafted is not None:
                drafted[one.held.key] = judgement.drafted
                positions[one.held.key] -= one.wanted - judgement.drafted
        drafting_ms = judgements[0].drafting.ms if any(drafted.values()) else 0.0
        prices = self.prices(len(rows))
        return {
            session: part * (1000 * timing.took_s - drafting_ms) + own_part * drafting_ms
            for (session, part), own_part in zip(
                _parts({session: prices.of(count) for session, count in positions.items()}).items(),
                _parts({session: drafted.get(session, 0) for session in positions}).values(),
                strict=True,
            )
        }

    def prices(self, rows: int) -> Prices:
        """Return what each of so many rows takes, and each position; as long as nothing is known, positions alone."""
        row_ms, position_ms = self._step.step_ms / rows, self._step.position_ms
        return Prices(row_ms, position_ms) if row_ms or position_ms else Prices()

    def own_window(self, held: Held, waiting: int) -> int:
        """Return how many tokens to draft here for a session, one of so many that wait and share a step.

        None goes further than pays for all: the draft passes behind the others' windows would be its alone.
        """
        draft_ms = self._draft.share_ms(waiting)
        most = MAX_WINDOW if waiting < 2 else self._best(self._own_acceptance.hoped, waiting, draft_ms, MAX_WINDOW)
        return self._best(held.own_acceptance.hoped, waiting, draft_ms, most)

    def merged_window(self, held: Held, waiting: int) -> int:
        """Return how many tokens of several windows of a session to verify at once, likewise.

        Where nobody else waits their places are free. Else later windows are verified when those before them stood.
        """
        if self._brief or waiting < 2:
            return MAX_WINDOW
        return self._best(held.acceptance.mean, waiting, 0.0, MAX_WINDOW)

    def next_window(self, held: Held, waiting: int, crowd: float) -> int:
        """Return the largest window that a device may draft next; 0 if even one token costs others more than it brings.

        Of ``waiting`` sessions, which its tenant's share of a step makes a ``crowd`` of so many.

        A session that is alone slows nobody. Of several none is to be slower than if all decoded alone, and what
        commits most tokens in a time serves all best: the time between steps is like what all rows of a step share.
        What is little known speaks for the wider window: under a narrow one nobody would learn better.
        """
        widest = widest_window(self._step_tokens, crowd, held.state.contract.max_window)
        if self._brief or waiting < 2:
            return widest
        acceptance, (step_ms, position_ms) = held.acceptance.hoped, self._step.surely()
        paying = paying_window(step_ms, position_ms, waiting, acceptance, widest)
        return best_window((step_ms + self._idle_ms) / waiting, position_ms, 0.0, acceptance, paying)

    def linger_s(self, waiting: Sequence[int], expected_s: Sequence[float]) -> float:
        """Return for how long a step should wait for rounds that are expected in so many seconds.

        Rounds of ``waiting`` positions are here. Where they fill the step, others would find no room in it.
        """
        if sum(waiting) >= self._step_tokens:
            return 0.0
        row_s = self._row_positions * self._step.position_ms / 1000
        return linger_s(len(waiting), expected_s, self._step.step_ms / 1000, row_s)

    def _best(self, acceptance: float, waiting: int, draft_ms: float, most: int) -> int:
        return best_window(self._step.step_ms / waiting, self._step.position_ms, draft_ms, acceptance, most)


def _parts(amounts: Mapping[str, float]) -> dict[str, float]:
    """Return what part of all each one is; 0 where there is nothing."""
    whole = sum(amounts.values())
    return {name: amount / whole if whole else 0.0 for name, amount in amounts.items()}
