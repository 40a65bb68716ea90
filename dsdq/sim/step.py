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

    ``positions`` are fed in all, those of drafts and ``prefill`` of prompts among them; drafting for the sessions in
    ``own`` took ``draft_ms`` of ``took_ms``, and so many rounds are ``verified``. So many sessions were ``asking`` for
    it, by tenant in ``crowd`` where there are several.
    """

    started_ms: float
    rows: list[tuple[Held, int, Round | None]]
    asking: int = 1
    positions: int = 0
    prefill: int = 0
    context: int = 0
    took_ms: float = 0.0
    draft_ms: float = 0.0
    verified: int = 0
    crowd: Counter[str] | None = None
    own: dict[str, OwnDraft] = field(default_factory=dict)

    def measure(self) -> list[int]:
        """Count positions, rounds, and the tokens of all texts; return what is to be drafted for each that wants it."""
        wanted = list[int]()
        for held, prefill, verified in self.rows:
            fed = prefill
            if verified is not None:
                self.verified += 1
                fed += verified.drafted + 1
                if verified.wanted:
                    wanted.append(verified.wanted)
            self.positions += fed
            self.prefill += prefill
            self.context += fed + held.cached
        return wanted

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


def judge(held: Held, verified: Round, step: Step, now_ms: float) -> Verdict:
    """Return what a round comes to: the tokens that are right, and one of the target's own, within the text."""
    if verified.windows:
        return _judge_windows(held, verified, step, now_ms)
    length, drafted = held.length, verified.drafted
    accepted = held.own_guesses.run(length, drafted) if drafted else 0
    committed = min(accepted + 1, held.output - length, held.grant_end - length)
    return Verdict(
        choice=held.grant_choice,
        drafted=drafted,
        accepted=min(accepted, committed),
        committed=committed,
        length=length + committed,
        queue_ms=step.started_ms - held.since_ms,
        verify_ms=now_ms - step.started_ms,
        batch_rows=step.verified,
        finished=length + committed >= held.output,
        part=held.part,
        most=verified.most,
    )


def _judge_windows(held: Held, verified: Round, step: Step, now_ms: float) -> Verdict:
    """Return what windows come to. Drafting for others is a wait to them."""
    windows, position = verified.windows, held.length
    for window in windows:
        most = window.base + window.size - position
        right = held.guesses.run(position, most, position - window.base)
        position += right
        if right < most:
            break
    accepted, left = position - held.length, held.output - held.length
    finished = accepted + 1 >= left
    committed = left if finished else accepted + 1
    return Verdict(
        choice=windows[0].choice,
        drafted=verified.drafted,
        accepted=min(accepted, committed),
        committed=committed,
        length=held.length + committed,
        queue_ms=step.started_ms - windows[0].arrived_ms + step.draft_ms,
        verify_ms=now_ms - step.started_ms - step.draft_ms,
        batch_rows=step.verified,
        finished=finished,
        # The token behind a draft that stands is the next window's first, if the device guesses it.
        keeps=accepted == verified.drafted and not finished and held.guesses.run(position, 1) > 0,
        windows=windows,
    )
