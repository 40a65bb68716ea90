"""From what sessions want to the rows of the next step, each with its blocks. Pure: no model, no clock of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dsdq.policies.batching import Residency, StepBudget, Tenure, Work, fill
from dsdq.policies.fairness import FairShare
from dsdq.policies.paging import Paging, blocks_for
from workers.engine.rows import Row

GREEDY_TENURE = Tenure(grace_s=0.0, patience_s=0.0)
"""For sessions that all wait in one process: nobody is about to come back, so nobody keeps a place."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one session wants of the next step.

    ``text`` is its prompt and what was committed. ``drafted`` are the tokens to be verified behind it, empty for a
    plain next token; None where no round waits, and its text may only be fed ahead. ``since_s`` is when it began to
    wait. It is its ``tenant``'s.
    """

    session: str
    text: Sequence[int]
    drafted: tuple[int, ...] | None
    since_s: float
    tenant: str = ""


class Planner:
    """Knows what is in the KV cache; decides what a step feeds."""

    def __init__(
        self,
        blocks: int,
        budget: StepBudget,
        *,
        fair: FairShare | None = None,
        tenure: Tenure = GREEDY_TENURE,
        shares: bool = True,
    ) -> None:
        """Begin with an empty cache of ``blocks`` blocks; ``shares`` holds equal prefixes together.

        ``fair`` says whose work comes first; whoever runs the steps lets it know what they took.
        """
        self.paging = Paging(blocks, shares=shares)
        self.fair = fair or FairShare()
        self.grace_s = tenure.grace_s
        self.evictions = 0
        self._budget = budget
        self._tenure = tenure
        self._used_s: dict[str, float] = {}

    def fits(self, tokens: int) -> bool:
        """Say whether a session of ``tokens`` tokens could run, if it were alone."""
        return blocks_for(tokens) <= self.paging.blocks

    def admit(self, session: str, salt: str) -> None:
        """Make a session known. Sessions of equal ``salt`` may share prefixes."""
        self.paging.admit(session, salt)

    def release(self, session: str) -> None:
        """Forget a session; one that is not known is no error."""
        self.paging.release(session)
        self._used_s.pop(session, None)

    def plan(self, requests: Iterable[Request], now_s: float, busy: Collection[str] = ()) -> list[Row]:
        """Return the next step's rows; none where nothing can run now.

        A row that keeps logits verifies its session's round; another only feeds a piece of its text. ``busy`` sessions
        are in a step that still runs: they get no row and lose nothing.
        """
        asked = {request.session: request for request in requests if request.session not in busy}
        works = [self._work(request) for request in asked.values()]
        room = Residency(self.paging, self._used_s, self._tenure, now_s, busy)
        shares = fill(self.fair.order(works), self._budget, room)
        verified = {share.session for share in shares if share.verify}
        self.fair.kept_waiting(work.tenant for work in works if work.verify and work.session not in verified)
        self.evictions += len(room.evicted)
        rows = [self._row(asked[share.session], share.prefill, share.verify) for share in shares]
        for row in rows:
            self._used_s[row.session] = now_s
        return rows

    def computed(self, session: str, text: Sequence[int], cached: int) -> None:
        """Note that the first ``cached`` tokens of a session's text have keys and values now."""
        if session in self.paging:
            self.paging.computed(session, text, cached)

    def _work(self, request: Request) -> Work:
        cached = self.paging.find(request.session, request.text)
        # The last token of the text is fed with the round: its logits are the first that are judged.
        prefill = len(request.text) - 1 - cached
        verify = 0 if request.drafted is None else len(request.drafted) + 1
        return Work(request.session, cached, prefill, verify, request.since_s, request.tenant)

    def _row(self, request: Request, prefill: int, verify: int) -> Row:
        holding, text = self.paging[request.session], request.text
        start = holding.cached
        tokens = (*text[start:], *(request.drafted or ())) if verify else tuple(text[start : start + prefill])
        return Row(request.session, start, tokens, verify, tuple(holding.blocks))
