"""A session's rounds on a device, from the opening to the close: draft, ask, draft on while the answer is on its way.

With a depth of 1 the device waits for each verdict. With more it drafts behind what is in flight; a verdict that leaves
it standing lets it go on, any other makes it begin again where the text is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from dsdq.client import GenerationStats
from dsdq.contract import Contract, FinishReason, Rule
from dsdq.drafting import DraftSession, Proposal
from dsdq.errors import SessionError
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.window import Choice, Mode, Observation, WindowPolicy
from dsdq.session import Transcript, check_verdict
from dsdq.tasks import end
from dsdq.wire import Closed, Decode, Draft, ErrorCode, Opened, Verdict, pack_contract
from producers.device.flights import Flights
from producers.device.link import SessionLink

RENEW = 0.5  # of a grant: so much is left when the next one is asked for


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a generation needs once prompt, tokenizer, drafter and verifier are known.

    ``drafts_briefly`` is the drafter's word that no thread is needed for it.
    """

    contract: Contract
    prompt: tuple[int, ...]
    tokenizer: Tokenizer
    draft: DraftSession
    drafts_briefly: bool
    policy: WindowPolicy
    link: SessionLink
    worker: str


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a verdict does not tell of its round: how long drafting it took, and what was in flight already."""

    draft_ms: float
    tokens: int
    in_flight: int


class Rounds:
    """Yields verdicts, checked, in the order of the text. ``shown`` are the tokens that the user has seen, growing.

    ``finish_reason`` is set before the last verdict is yielded.
    """

    def __init__(self, prepared: Prepared, stats: GenerationStats, shown: Sequence[int]) -> None:
        self.finish_reason: FinishReason | None = None
        self._contract, self._prompt, self._worker = prepared.contract, prepared.prompt, prepared.worker
        self._link, self._policy = prepared.link, prepared.policy
        self._draft, self._briefly = prepared.draft, prepared.drafts_briefly
        self._stats = stats
        self._shown = shown
        self._transcript = Transcript(pack_contract(prepared.contract), prepared.prompt)
        self._flights = Flights(prepared.contract.session, self._transcript)
        self._sent: dict[int, _Sent] = {}
        self._widest = prepared.contract.max_window
        self._part = 0
        self._silent = False  # the drafter knows nothing to follow what is in flight
        self._drafting: asyncio.Task[tuple[Proposal, float]] | None = None
        self._drafted_on = 0  # the branch that it continues
        self._answering: asyncio.Task[Verdict | Closed | Opened] | None = None
        self._publishing: set[asyncio.Task[None]] = set()

    async def verdicts(self) -> AsyncIterator[Verdict]:
        """Open the session and yield its verdicts until the verifier ends it.

        Raises:
            RefusedError: the verifier said no, and why.
            SessionError: the session failed, or its text is not the one that was agreed on.
            BusyError: every verifier stayed full.
        """
        opened = await self._link.open(self._contract, self._prompt, self._worker)
        self._widest = opened.max_window
        try:
            while self.finish_reason is None:
                await self._ask_on()
                if self._flights.rounds and (verdict := await self._take(await self._answer())) is not None:
                    yield verdict
        finally:
            await self._stop()

    # Asking

    async def _ask_on(self) -> None:
        """Ask for as much as the policy wants, or until an answer is here."""
        while self._answering is None or not self._answering.done():
            choice = Choice(self._contract.max_window) if self._known() else self._policy.choose()
            if choice.mode is not Mode.SPECULATE:
                if not len(self._flights) and self._flights.granted <= RENEW * choice.budget:
                    await self._grant(choice.budget)
                return
            if self._flights.granted or len(self._flights) >= choice.depth or self._silent:
                return
            proposal = await self._proposal(self._window(choice))
            if proposal is not None:
                await self._launch(proposal, choice.depth)

    def _window(self, choice: Choice) -> int:
        """Return how many tokens to draft, none where the text needs no more."""
        left = self._contract.max_tokens - (self._flights.length - self._transcript.prompt_tokens)
        # The verifier adds a token of its own to every window: the last place needs no draft.
        return max(0, min(choice.window, self._contract.max_window, self._widest, left - 1))

    def _known(self) -> Sequence[int]:
        """Return the tokens behind all that is in flight that were shown before Redis lost the end of the log."""
        return self._shown[self._flights.length - len(self._prompt) :]

    async def _proposal(self, window: int) -> tuple[Proposal, float] | None:
        """Return a draft of what follows all that is in flight, and its milliseconds; None if an answer came first."""
        began, known = perf_counter(), self._known()
        if known:
            proposal = Proposal(tuple(known[: max(window, 1)]))
        elif len(self._flights) and not window:
            proposal = Proposal(())
        elif self._briefly:
            proposal = self._draft.propose(self._flights.text(), window)
        elif not len(self._flights) and self._drafting is None:
            proposal = await asyncio.to_thread(self._draft.propose, self._flights.text(), window)
        else:
            return await self._proposal_meanwhile(window)
        return proposal, 1000 * (perf_counter() - began)

    async def _proposal_meanwhile(self, window: int) -> tuple[Proposal, float] | None:
        """Do as :meth:`_proposal` while an answer is waited for. A draft that is under way is taken up again."""
        if self._drafting is None:
            self._drafting = asyncio.create_task(_timed(self._draft, self._flights.text(), window))
            self._drafted_on = self._flights.branch
        await asyncio.wait({self._drafting, self._awaited()}, return_when=asyncio.FIRST_COMPLETED)
        if not self._drafting.done():
            return None
        drafted, self._drafting = self._drafting.result(), None
        return drafted if self._drafted_on == self._flights.branch else None

    async def _launch(self, drafted: tuple[Proposal, float], depth: int) -> None:
        """Publish a draft; without tokens let the target decode, or wait for what is in flight."""
        proposal, draft_ms = drafted
        self._stats.draft_ms += draft_ms
        if proposal.tokens:
            self._stats.rounds += 1
            self._stats.drafted_tokens += len(proposal.tokens)
            in_flight = len(self._flights)
            window = self._flights.launch(proposal.tokens, proposal.law)
            self._sent[window.round] = _Sent(draft_ms, len(proposal.tokens), in_flight)
            await self._publish(window, waits=depth == 1)
        elif len(self._flights):
            self._silent = True
        else:
            await self._grant(proposal.budget)

    async def _grant(self, budget: int) -> None:
        left = self._contract.max_tokens - self._transcript.generated
        if not self._flights.granted:
            self._part = 0
        self._stats.rounds += 1
        await self._publish(self._flights.grant(min(max(budget, 1), left)), waits=True)

    async def _publish(self, request: Draft | Decode, *, waits: bool) -> None:
        """Publish a round. One that others are to follow is not waited for: that would take a round trip."""
        if waits:
            await self._link.ask(request)
        else:
            self._publishing.add(asyncio.create_task(self._link.ask(request)))

    # Answers

    def _awaited(self) -> asyncio.Task[Verdict | Closed | Opened]:
        if self._answering is None:
            self._answering = asyncio.create_task(self._link.answer())
        return self._answering

    async def _answer(self) -> Verdict | Closed | Opened:
        """Return the next answer, or raise what a publication or the wait for the answer failed with."""
        if self._answering is None and not self._publishing:
            return await self._link.answer()
        answering = self._awaited()
        while not answering.done():
            await asyncio.wait({answering, *self._publishing}, return_when=asyncio.FIRST_COMPLETED)
            for published in [one for one in self._publishing if one.done()]:
                self._publishing.remove(published)
                published.result()
        self._answering = None
        return answering.result()

    async def _take(self, answer: Verdict | Closed | Opened) -> Verdict | None:
        """Take an answer in; return it if it is a verdict, with ``finish_reason`` set if it is the last one."""
        if isinstance(answer, Closed):
            self.finish_reason = answer.reason
            return None
        if isinstance(answer, Opened):
            self._rewind(answer)
            return None
        check_verdict(self._transcript, answer)
        self._stats.wasted_tokens += self._flights.land(answer)
        self._silent = False
        self._widest = answer.max_window
        self._note(answer)
        self._link.keep(self._flights.rounds)
        closed: Verdict | Closed | Opened | None = self._link.closed()
        if closed is None and self._transcript.generated >= self._contract.max_tokens:  # nothing else can come
            closed = await self._link.answer()
        if isinstance(closed, Closed):
            self.finish_reason = closed.reason
        if isinstance(closed, Opened):
            self._rewind(closed)
        return answer

    def _note(self, verdict: Verdict) -> None:
        """Count a verdict, and tell the policy what it showed."""
        stats, waited_ms = self._stats, self._link.waited_ms
        stats.judged_tokens += verdict.drafted
        stats.accepted_tokens += verdict.accepted
        stats.round_trips_ms.append(waited_ms)
        stats.queue_ms.append(verdict.queue_us / 1000)
        stats.verify_ms.append(verdict.verify_us / 1000)
        stats.batch_rows.append(verdict.batch_rows)
        sent = [self._sent.pop(number, None) for number in range(verdict.first_round, verdict.last_round + 1)]
        windows = [one for one in sent if one is not None]
        draft_ms = sum(one.draft_ms for one in windows)
        observation = Observation(
            drafted=verdict.drafted,
            accepted=verdict.accepted,
            draft_ms=draft_ms,
            draft_token_ms=draft_ms / sum(one.tokens for one in windows) if windows else 0.0,
            round_trip_ms=waited_ms,
            queue_ms=verdict.queue_us / 1000,
            verify_ms=verdict.verify_us / 1000,
            committed=len(verdict.tokens),
            mode=Mode.SPECULATE if windows else Mode.TARGET_ONLY,
            time_ms=1000 * perf_counter(),
            part=0 if windows else self._part,
            in_flight=windows[0].in_flight if windows else 0,
            max_window=verdict.max_window,
            batch_rows=verdict.batch_rows,
            link_ms=self._link.link_ms,
        )
        self._link.link_ms = None
        self._part += not windows
        self._policy.observe(observation)

    def _rewind(self, opened: Opened) -> None:
        """Go back to where the log ends now.

        Raises:
            SessionError: the log's text is not the beginning of this one, or its coins are not tossed again.
        """
        if self._contract.rule is Rule.REJECTION:
            msg = "Redis lost tokens that were shown, and under the rejection rule they would not come again"
            raise SessionError(ErrorCode.LOG_LOST, msg)
        transcript = self._transcript
        self._link.log.warning("log lost", shown=transcript.length, length=opened.length)
        if opened.length < transcript.prompt_tokens or opened.digest != transcript.digest_at(opened.length):
            msg = f"expected a log that begins as the text does, got another at length {opened.length}"
            raise SessionError(ErrorCode.DIGEST_MISMATCH, msg)
        transcript.truncate(opened.length)
        self._stats.wasted_tokens += self._flights.abandon()
        self._sent.clear()
        self._silent = False
        self._link.rewind(opened.length)

    async def _stop(self) -> None:
        """End what still runs; a draft's thread is left to its end."""
        running = (self._drafting, self._answering, *self._publishing)
        await end(*(task for task in running if task is not None))


async def _timed(draft: DraftSession, text: Sequence[int], window: int) -> tuple[Proposal, float]:
    began = perf_counter()
    proposal = await asyncio.to_thread(draft.propose, text, window)
    return proposal, 1000 * (perf_counter() - began)
