"""A session's rounds on a device, from the opening to the close: draft, ask, draft on while the answer is on its way.

With a depth of 1 the device waits for each verdict. With more it drafts behind what is in flight; a verdict that leaves
it standing lets it go on, any other makes it begin again where the text is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from dsdq.client import GenerationStats
from dsdq.contract import Contract, FinishReason, Rule
from dsdq.drafting import Proposal
from dsdq.errors import SessionError
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.window import Choice, Mode, WindowPolicy, far_from
from dsdq.policies.window.protocol import PAUSE, RENEW
from dsdq.receipts import Receipt, Tally
from dsdq.session import Transcript, check_verdict
from dsdq.tasks import end
from dsdq.wire import Closed, Decode, Draft, ErrorCode, Opened, Verdict, pack_contract
from producers.device.drafting import Drafting, Hand, Made
from producers.device.flights import Flights
from producers.device.link import SessionLink
from producers.device.observing import Observer


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a generation needs once prompt, tokenizer, drafters and verifier are known.

    ``round_trip_ms`` is what a round trip to Redis takes, ``receipt_key`` by which receipts must be signed, if any.
    """

    contract: Contract
    prompt: tuple[int, ...]
    tokenizer: Tokenizer
    hands: Sequence[Hand]
    policy: WindowPolicy
    link: SessionLink
    worker: str
    round_trip_ms: float
    receipt_key: bytes | None = None


class Rounds:
    """Yields verdicts, checked, in the order of the text. ``shown`` are the tokens that the user has seen, growing.

    ``finish_reason`` and ``receipt`` are set before the last verdict is yielded.
    """

    def __init__(self, prepared: Prepared, stats: GenerationStats, shown: Sequence[int]) -> None:
        self.finish_reason: FinishReason | None = None
        self.receipt: Receipt | None = None
        self._contract, self._prompt, self._worker = prepared.contract, prepared.prompt, prepared.worker
        self._link, self._policy = prepared.link, prepared.policy
        self._shown = shown
        self._round_trip_s = prepared.round_trip_ms / 1000
        self._transcript = Transcript(pack_contract(prepared.contract), prepared.prompt)
        self._tally = Tally(len(prepared.prompt))
        self._receipt_key = prepared.receipt_key
        self._flights = Flights(prepared.contract.session, self._transcript)
        self._drafting = Drafting(prepared.hands, prepared.policy, self._flights)
        self._observer = Observer(prepared.policy, stats, prepared.link)
        self._widest = prepared.contract.max_window
        self._silent = False  # the drafter knows nothing to follow what is in flight
        self._answering: asyncio.Task[Verdict | Closed | Opened] | None = None
        self._publishing: set[asyncio.Task[None]] = set()

    async def verdicts(self) -> AsyncIterator[Verdict]:
        """Open the session and yield its verdicts until the verifier ends it.

        Raises:
            RefusedError: the verifier said no, and why.
            SessionError: the session failed, or its text is not the one that was agreed on.
            BusyError: every verifier stayed full.
        """
        try:
            await self._open()
            while self.finish_reason is None:
                await self._ask_on()
                if self._flights.rounds and (verdict := await self._take(await self._answer())) is not None:
                    yield verdict
        finally:
            await self._stop()

    # Asking

    async def _open(self) -> None:
        """Open the session, together with its first round if that can be asked for soon enough."""
        first = await self._first()
        opened = await self._link.open(self._contract, self._prompt, self._worker, first)
        self._widest = opened.max_window

    async def _first(self) -> Draft | Decode | None:
        """Return the first round; None if its draft takes longer than the round trip that it would save."""
        choice = self._choice()
        if choice.mode is not Mode.SPECULATE:
            return self._grant(choice)
        making = self._drafting.begin(self._window(choice), choice.drafter)
        if not making.done():
            await asyncio.wait({making}, timeout=self._round_trip_s)
        made = self._drafting.take() if making.done() else None
        return None if made is None else self._launch(made)

    async def _ask_on(self) -> None:
        """Ask for as much as the policy wants, or until an answer is here."""
        while self._answering is None or not self._answering.done():
            choice = self._choice()
            if choice.mode is not Mode.SPECULATE:
                await self._stream(choice)
                return
            if self._flights.granted or len(self._flights) >= choice.depth or self._silent:
                return
            made = await self._made(self._window(choice), choice.drafter)
            request = None if made is None else self._launch(made)
            if request is not None:
                await self._publish(request, waits=isinstance(request, Decode) or choice.depth == 1)

    async def _stream(self, choice: Choice) -> None:
        """Keep the verifier decoding; meanwhile the drafter, which has nothing else to do, guesses along."""
        if not self._flights.granted:
            self._drafting.drop()
        if not len(self._flights) and self._renews(choice):
            begins = not self._flights.granted
            await self._publish(self._grant(choice), waits=begins)
        if self._flights.granted and self._policy.uses_guesses:
            self._drafting.guess()

    def _renews(self, choice: Choice) -> bool:
        """Say whether it is time for the next grant."""
        renew = 0 if choice is PAUSE else RENEW * choice.budget
        if self._flights.granted <= min(renew, self._left - 1):
            return True
        granted = self._flights.streaming
        return granted is not None and far_from(_stream_window(choice), granted)

    def _choice(self) -> Choice:
        """Return the policy's choice, but what was shown is offered again first, and no draft that nobody wants."""
        if self._known():
            return Choice(self._contract.max_window)
        choice = self._policy.choose()
        return PAUSE if choice.mode is Mode.SPECULATE and not self._widest else choice

    @property
    def _left(self) -> int:
        """Return how many tokens are still to be committed at most."""
        return self._contract.max_tokens - self._transcript.generated

    def _window(self, choice: Choice) -> int:
        """Return how many tokens to draft, none where the text needs no more."""
        left = self._contract.max_tokens - (self._flights.length - self._transcript.prompt_tokens)
        # The verifier adds a token of its own to every window: the last place needs no draft.
        return max(0, min(choice.window, self._contract.max_window, self._widest, left - 1))

    def _known(self) -> Sequence[int]:
        """Return the tokens behind all that is in flight that were shown before Redis lost the end of the log."""
        return self._shown[self._flights.length - len(self._prompt) :]

    async def _made(self, window: int, drafter: int) -> Made | None:
        """Return a draft of what follows all that is in flight; None if an answer came first, or refuted it."""
        known = self._known()
        if known:
            return Made(Proposal(tuple(known[: max(window, 1)])))
        if len(self._flights) and not window:
            return Made(Proposal(()))
        making = self._drafting.begin(window, drafter)
        if not making.done():
            waiting: set[asyncio.Future[Any]] = {making}
            if len(self._flights):
                waiting.add(self._awaited())
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return self._drafting.take() if making.done() else None

    def _launch(self, made: Made) -> Draft | Decode | None:
        """Return the request for a draft; without tokens one to let the target decode, or none behind others."""
        proposal, in_flight = made.proposal, len(self._flights)
        if proposal.tokens:
            window = self._flights.launch(proposal.tokens, proposal.law)
            self._tally.asked(window)
            self._observer.launched(window, made, in_flight)
            return window
        if not in_flight:
            return self._grant(Choice(0, 1, Mode.TARGET_ONLY, budget=proposal.budget), made.unknown)
        self._silent = True
        return None

    def _grant(self, choice: Choice, unknown: int = 0) -> Decode:
        """Return the request to let the verifier go on by itself, as was chosen, or as the drafter knew nothing."""
        self._observer.granted(begins=not self._flights.granted, unknown=unknown)
        budget = max(choice.budget, self._flights.granted, 1)  # it takes the place of one that reaches no further
        window = min(_stream_window(choice), self._contract.max_window)
        grant = self._flights.grant(min(budget, self._left), window)
        self._tally.asked(grant)
        return grant

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
            self._close(answer)
            return None
        if isinstance(answer, Opened):
            self._rewind(answer)
            return None
        check_verdict(self._transcript, answer)
        self._tally.add(answer)
        self._land(answer)
        self._link.keep(self._flights.rounds)
        closed: Verdict | Closed | Opened | None = self._link.closed()
        if closed is None and not self._left:  # nothing else can come
            closed = await self._link.answer()
        if isinstance(closed, Closed):
            self._close(closed)
        if isinstance(closed, Opened):
            self._rewind(closed)
        return answer

    def _land(self, verdict: Verdict) -> None:
        """Take in what a verdict means for what is in flight and what is drafted, and let the policy know."""
        grant = self._flights.grant_of(verdict)
        landed = self._flights.land(verdict)
        self._drafting.follow()
        guessed = landed.guessed if grant is None else self._drafting.guessed()
        if grant is not None and not self._flights.granted:
            self._drafting.drop()
        self._silent = False
        self._observer.wasted(landed.wasted)
        self._observer.note(verdict, guessed, grant, self._widest)
        self._widest = verdict.max_window

    def _close(self, closed: Closed) -> None:
        """Take in how the session ended.

        Raises:
            SessionError: its device did not go on with it in time, or the receipt says other than the verdicts did.
        """
        tokens = tuple(self._transcript.tokens[self._transcript.prompt_tokens :])
        receipt = Receipt(pack_contract(self._contract), self._prompt, tokens, self._tally.counts, closed)
        problems = receipt.problems(self._receipt_key)
        if problems:
            raise SessionError(ErrorCode.RECEIPT_INVALID, f"receipt: {'; '.join(problems)}")
        self.finish_reason, self.receipt = closed.reason, receipt
        if closed.reason is FinishReason.EXPIRED:
            raise SessionError(ErrorCode.EXPIRED, "no message came for too long; open a new session")

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
        self._tally.rewind(opened.length)
        self._observer.abandoned(self._flights.abandon())
        self._drafting.drop()
        self._silent = False
        self._link.rewind(opened.length)

    async def _stop(self) -> None:
        """End what still runs."""
        running = (self._answering, *self._publishing)
        await end(*(task for task in running if task is not None))
        await self._drafting.end()


def _stream_window(choice: Choice) -> int:
    return choice.window if choice.mode is Mode.COLOCATED else 0
