"""One step of a simulated verifier: who is in it, what it takes, and what its rounds come to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dsdq.policies.steering import OwnDraft, OwnDrafts
from dsdq.sim.held import Held, Round
from dsdq.sim.messages import Verdict


@dataclass(slots=True)
class Step:
    """A step that runs: each session with the prompt tokens that it is fed, and whether its round is verified.

    ``positions`` are fed in all, those of drafts among them; drafting for the sessions in ``own`` took ``draft_ms`` of
    ``took_ms``. So many sessions were ``asking`` for it, by tenant in ``crowd`` where there are several.
    """

    started_ms: float
    rows: list[tuple[Held, int, Round | None]]
    asking: int = 1
    positions: int = 0
    context: int = 0
    took_ms: float = 0.0
    draft_ms: float = 0.0
    crowd: Counter[str] | None = None
    own: dict[str, OwnDraft] = field(default_factory=dict)

    def measure(self) -> list[int]:
        """Count positions, and the tokens that their texts have in all; return what is to be drafted for which row."""
        wanted = list[int]()
        for held, prefill, verified in self.rows:
            fed = prefill if verified is None else prefill + verified.drafted + 1
            if verified is not None and verified.wanted:
                wanted.append(verified.wanted)
            self.positions += fed
            self.context += fed + held.cached
        return wanted

    @property
    def verified(self) -> int:
        """Return how many rounds it verifies."""
        return sum(verified is not None for _, _, verified in self.rows)

    @property
    def drafts(self) -> OwnDrafts:
        """Return what was drafted in it."""
        return OwnDrafts(self.draft_ms, sum(one.drafted for one in self.own.values()), self.own)

    def positions_of(self) -> dict[str, int]:
        """Return how many positions each session was fed."""
        return {
            held.key: prefill if verified is None else prefill + verified.drafted + 1
            for held, prefill, verified in self.rows
        }


def judge(held: Held, verified: Round, step: Step, now_ms: float, rows: int) -> Verdict:
    """Return what a round comes to: the tokens that are right, and one of the target's own, within the text."""
    accepted = held.own_guesses.run(held.length, verified.drafted) if verified.wanted else _stands(held, verified)
    committed = min(accepted + 1, held.output - held.length)
    if not verified.windows:
        committed = min(committed, held.grant_end - held.length)
    verify_ms = now_ms - step.started_ms
    windows = verified.windows
    verdict = Verdict(
        windows[0].choice if windows else held.grant_choice,
        verified.drafted,
        min(accepted, committed),
        committed,
        held.length + committed,
        step.started_ms - held.since_ms,
        verify_ms if verified.wanted or not windows else verify_ms - step.draft_ms,
        rows,
        0,
        held.length + committed >= held.output,
        part=held.part,
        windows=windows,
    )
    if windows and not verdict.finished and accepted == verified.drafted:
        # The token behind a draft that stands is the next window's first, if the device guesses it.
        verdict.keeps = bool(held.guesses.run(verdict.length - 1, 1))
    if windows:
        verdict.queue_ms = step.started_ms - windows[0].arrived_ms + step.draft_ms
    return verdict


def _stands(held: Held, verified: Round) -> int:
    """Return how many drafted tokens of some windows are right in turn."""
    position = held.length
    for window in verified.windows:
        most = window.end - position
        right = held.guesses.run(position, most, position - window.base)
        position += right
        if right < most:
            break
    return position - held.length
