"""What a session's verdicts come to: its figures, and what its policy is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from dsdq.client import GenerationStats
from dsdq.policies.window import Mode, Observation, WindowPolicy
from dsdq.wire import Decode, Draft, Verdict
from producers.device.drafting import Made
from producers.device.flights import Guessed
from producers.device.link import SessionLink


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a verdict does not tell of a window: how it was drafted, and what was in flight already."""

    made: Made
    in_flight: int


class Observer:
    """Counts what was asked for and what came of it, and tells ``policy``."""

    def __init__(self, policy: WindowPolicy, stats: GenerationStats, link: SessionLink) -> None:
        self._policy, self._stats, self._link = policy, stats, link
        self._sent: dict[int, _Sent] = {}
        self._part, self._unknown = 0, 0

    def launched(self, window: Draft, made: Made, in_flight: int) -> None:
        """Take in that a window was sent while ``in_flight`` others were unanswered."""
        self._stats.rounds += 1
        self._stats.rounds_ahead += in_flight > 0
        self._stats.drafted_tokens += len(window.tokens)
        self._stats.draft_ms += made.draft_ms
        self._sent[window.round] = _Sent(made, in_flight)

    def granted(self, *, begins: bool, unknown: int = 0) -> None:
        """Take in that a grant was sent, which begins a stream or goes on with one.

        It may stand for so many tokens that the drafter did not know.
        """
        self._stats.rounds += 1
        if begins:
            self._part, self._unknown = 0, unknown

    def wasted(self, tokens: int) -> None:
        """Take in that so many tokens in flight will not be judged."""
        self._stats.wasted_tokens += tokens

    def abandoned(self, tokens: int) -> None:
        """Take in that all that was in flight, so many tokens, was given up."""
        self.wasted(tokens)
        self._sent.clear()

    def note(self, verdict: Verdict, guessed: Guessed, grant: Decode | None, widest: int) -> None:
        """Take in a verdict, and what it showed of the drafter's guesses.

        It may be part of the answer to a ``grant``; ``widest`` is what the verifier asked for before it.
        """
        self._count(verdict, grant)
        sent = [self._sent.pop(number, None) for number in range(verdict.first_round, verdict.last_round + 1)]
        windows = [one for one in sent if one is not None]
        draft_ms, drafted = sum(one.made.draft_ms for one in windows), sum(one.made.drafted for one in windows)
        observation = Observation(
            drafted=verdict.drafted,
            accepted=verdict.accepted,
            draft_ms=draft_ms,
            draft_token_ms=draft_ms / drafted if drafted else 0.0,
            round_trip_ms=self._link.waited_ms,
            queue_ms=verdict.queue_us / 1000,
            verify_ms=verdict.verify_us / 1000,
            committed=len(verdict.tokens),
            mode=_mode(grant),
            time_ms=1000 * perf_counter(),
            part=0 if grant is None else self._part,
            in_flight=windows[0].in_flight if windows else 0,
            max_window=verdict.max_window,
            batch_rows=verdict.batch_rows,
            link_ms=self._link.link_ms,
            confidences=_confidences(verdict, windows),
            guessed=guessed.tokens,
            guessed_right=guessed.right,
            guess_ms=guessed.guess_ms,
            drafter=windows[0].made.drafter if windows else 0,
            wanted=self._wanted(verdict, windows, grant, widest),
        )
        self._link.link_ms = None
        self._part += grant is not None
        self._policy.observe(observation)

    def _wanted(self, verdict: Verdict, windows: Sequence[_Sent], grant: Decode | None, widest: int) -> int:
        """Return how many tokens could have been drafted."""
        if grant is None:
            return verdict.drafted + (windows[-1].made.unknown if windows else 0)
        if grant.window:
            return min(grant.window, widest, grant.end - verdict.base - 1)
        return 0 if self._part else self._unknown

    def _count(self, verdict: Verdict, grant: Decode | None) -> None:
        stats = self._stats
        stats.judged_tokens += verdict.drafted
        stats.accepted_tokens += verdict.accepted
        stats.round_trips_ms.append(self._link.waited_ms)
        stats.queue_ms.append(verdict.queue_us / 1000)
        stats.verify_ms.append(verdict.verify_us / 1000)
        stats.batch_rows.append(verdict.batch_rows)
        stats.modes.append(_mode(grant).value)


def _mode(grant: Decode | None) -> Mode:
    if grant is None:
        return Mode.SPECULATE
    return Mode.COLOCATED if grant.window else Mode.TARGET_ONLY


def _confidences(verdict: Verdict, windows: Sequence[_Sent]) -> tuple[float, ...]:
    """Return the confidences of the tokens that were judged: all but the first, which were committed before."""
    proposals = [one.made.proposal for one in windows]
    confidences = tuple(one for proposal in proposals for one in proposal.confidences)
    tokens = sum(len(proposal.tokens) for proposal in proposals)
    return confidences[tokens - verdict.drafted :] if len(confidences) == tokens else ()
