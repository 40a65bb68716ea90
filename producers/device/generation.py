"""One generation on a device: draft, ask, check the verdict, hand out what was committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from types import AsyncGeneratorType
from typing import cast

from dsdq.client import GenerationStats, Token, TokenKind
from dsdq.contract import Contract, FinishReason, Rule
from dsdq.drafting import DraftSession, Proposal
from dsdq.errors import GoneError, SessionError
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.window import Observation, WindowPolicy
from dsdq.session import Transcript, check_verdict
from dsdq.stopping import ShownText
from dsdq.wire import Closed, Decode, Draft, ErrorCode, Opened, Verdict
from producers.device.link import SessionLink


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


class RedisGeneration:
    """See :class:`dsdq.client.Generation`. ``prepare`` runs when iteration starts, so that nothing happens unasked."""

    def __init__(self, prepare: Callable[[GenerationStats], Awaitable[Prepared]]) -> None:
        self.ids: list[int] = []
        self.prompt_ids: tuple[int, ...] = ()
        self.stats = GenerationStats()
        self.finish_reason: FinishReason | None = None
        self._max_tokens, self._rule = 0, Rule.COUPLED
        self._closing = False
        self._prepare = prepare
        self._tokens: AsyncGeneratorType[Token, None] | None = None
        self._link: SessionLink | None = None

    def __aiter__(self) -> AsyncIterator[Token]:
        """Yield every committed token, in order, once."""
        if self._tokens is None:
            self._tokens = cast("AsyncGeneratorType[Token, None]", self._run())
        return self._tokens

    async def aclose(self) -> None:
        """Cancel what still runs and free the session."""
        self._closing = True
        if self._tokens is None:
            return
        if not self._tokens.ag_running:
            await self._tokens.aclose()
        elif self._link is not None:  # another task waits for its next token: end its wait
            await self._link.close(cancel=self.finish_reason is None)

    async def _run(self) -> AsyncGenerator[Token, None]:
        started = perf_counter()
        prepared = await self._prepare(self.stats)
        if self._closing:
            msg = "expected an open generation, it was closed"
            raise GoneError(msg)
        self._link = prepared.link
        self._max_tokens, self._rule = prepared.contract.max_tokens, prepared.contract.rule
        self.prompt_ids = prepared.prompt
        self.stats.prompt_tokens = len(prepared.prompt)
        pieces = ShownText(prepared.tokenizer.stream(), prepared.contract.stop_strings)
        try:
            async for verdict, drafted, shown in self._rounds(prepared):
                last = None if self.finish_reason is None else len(verdict.tokens) - 1
                for place in range(shown, len(verdict.tokens)):
                    self._show(verdict.tokens[place], started)
                    text = pieces.push(verdict.tokens[place])
                    if place == last:
                        text += pieces.finish()
                    yield _token(verdict, place, drafted, text)
        finally:
            await prepared.link.close(cancel=self.finish_reason is None)

    def _show(self, token: int, started: float) -> None:
        self.ids.append(token)
        self.stats.committed_tokens = len(self.ids)
        self.stats.duration_ms = 1000 * (perf_counter() - started)
        if len(self.ids) == 1:
            self.stats.ttft_ms = self.stats.duration_ms

    async def _rounds(self, prepared: Prepared) -> AsyncIterator[tuple[Verdict, int, int]]:
        """Yield (verdict, tokens drafted, tokens of it that were shown before) until the verifier ends the session."""
        contract, link = prepared.contract, prepared.link
        opened = await link.open(contract, prepared.prompt, prepared.worker)
        transcript = Transcript(link.contract_bytes, prepared.prompt)
        widest, branch = opened.max_window, 0
        while self.finish_reason is None:
            left = contract.max_tokens - transcript.generated
            # The verifier adds a token of its own to every window: the last place needs no draft.
            window = min(prepared.policy.choose().window, contract.max_window, widest, left - 1)
            began = perf_counter()
            proposal = await self._propose(prepared, transcript, window)
            draft_ms = 1000 * (perf_counter() - began)
            self.stats.draft_ms += draft_ms
            request = self._request(contract, transcript, branch, proposal)
            async for verdict, waited_ms in self._answers(link, transcript, request):
                widest = verdict.max_window
                branch += verdict.accepted < len(proposal.tokens)
                prepared.policy.observe(_observation(verdict, proposal, draft_ms, waited_ms))
                yield verdict, len(proposal.tokens), self._shown(prepared, verdict)

    async def _propose(self, prepared: Prepared, transcript: Transcript, window: int) -> Proposal:
        """Return a draft; of what was shown before Redis lost the end of the log, the same tokens again."""
        known = self.ids[transcript.generated :]
        if known:
            return Proposal(tuple(known[: max(window, 1)]))
        if prepared.drafts_briefly:
            return prepared.draft.propose(transcript.tokens, window)
        return await asyncio.to_thread(prepared.draft.propose, transcript.tokens, window)

    def _shown(self, prepared: Prepared, verdict: Verdict) -> int:
        """Return how many of a verdict's tokens were shown before Redis lost the end of the log.

        Raises:
            SessionError: they are others now: the target does not say again what it said.
        """
        known = self.ids[verdict.base - len(prepared.prompt) :][: len(verdict.tokens)]
        if tuple(known) != verdict.tokens[: len(known)]:
            msg = "Redis lost tokens that were shown, and the target does not say them again"
            raise SessionError(ErrorCode.LOG_LOST, msg)
        return len(known)

    def _request(self, contract: Contract, transcript: Transcript, branch: int, proposal: Proposal) -> Draft | Decode:
        self.stats.rounds += 1
        self.stats.drafted_tokens += len(proposal.tokens)
        place = (contract.session, branch, self.stats.rounds, transcript.length, transcript.digest)
        if proposal.tokens:
            return Draft(*place, tokens=proposal.tokens, law=proposal.law)
        left = contract.max_tokens - transcript.generated
        return Decode(*place, budget=min(max(proposal.budget, 1), left))

    async def _answers(
        self, link: SessionLink, transcript: Transcript, request: Draft | Decode
    ) -> AsyncIterator[tuple[Verdict, float]]:
        """Yield the request's verdicts, each with the milliseconds that it took.

        A draft has one; a grant has one for each token, until its budget is used or the text ends.
        """
        end = request.base + (request.budget if isinstance(request, Decode) else 1)
        asked = perf_counter()
        await link.ask(request)
        while transcript.length < end:
            message = await link.answer()
            if isinstance(message, Closed):
                self.finish_reason = message.reason
                return
            if isinstance(message, Opened):
                self._rewind(link, transcript, message)
                return
            waited_ms = 1000 * (perf_counter() - asked)
            check_verdict(transcript, message)
            self.stats.accepted_tokens += message.accepted
            self.stats.round_trips_ms.append(waited_ms)
            self.stats.queue_ms.append(message.queue_us / 1000)
            self.stats.verify_ms.append(message.verify_us / 1000)
            self.stats.batch_rows.append(message.batch_rows)
            closed: Verdict | Closed | Opened | None = link.closed() if transcript.length >= end else None
            if closed is None and transcript.generated >= self._max_tokens:  # nothing else can come
                closed = await link.answer()
            if isinstance(closed, Closed):
                self.finish_reason = closed.reason
            yield message, waited_ms
            if isinstance(closed, Opened):
                self._rewind(link, transcript, closed)
                return
            asked = perf_counter()

    def _rewind(self, link: SessionLink, transcript: Transcript, opened: Opened) -> None:
        """Go back to where the log ends now.

        Raises:
            SessionError: the log's text is not the beginning of this one, or its coins are not tossed again.
        """
        if self._rule is Rule.REJECTION:
            msg = "Redis lost tokens that were shown, and under the rejection rule they would not come again"
            raise SessionError(ErrorCode.LOG_LOST, msg)
        link.log.warning("log lost", shown=transcript.length, length=opened.length)
        if opened.length < transcript.prompt_tokens or opened.digest != transcript.digest_at(opened.length):
            msg = f"expected a log that begins as the text does, got another at length {opened.length}"
            raise SessionError(ErrorCode.DIGEST_MISMATCH, msg)
        transcript.truncate(opened.length)


def _observation(verdict: Verdict, proposal: Proposal, draft_ms: float, waited_ms: float) -> Observation:
    return Observation(
        drafted=len(proposal.tokens),
        accepted=verdict.accepted,
        draft_ms=draft_ms,
        round_trip_ms=waited_ms,
        queue_ms=verdict.queue_us / 1000,
        verify_ms=verdict.verify_us / 1000,
        committed=len(verdict.tokens),
        draft_token_ms=draft_ms / max(len(proposal.tokens), 1),
        time_ms=1000 * perf_counter(),
        max_window=verdict.max_window,
        batch_rows=verdict.batch_rows,
    )


def _token(verdict: Verdict, place: int, drafted: int, text: str) -> Token:
    """Return one of a verdict's tokens with the text that it completes."""
    token, kind = verdict.tokens[place], _kind(place, verdict.accepted, drafted)
    if verdict.logprobs is None:
        return Token(token, text, kind)
    return Token(token, text, kind, float(verdict.logprobs.chosen[place]), verdict.logprobs.alternatives(place))


def _kind(position: int, accepted: int, drafted: int) -> TokenKind:
    if position < accepted:
        return TokenKind.ACCEPTED
    if not drafted:
        return TokenKind.TARGET
    return TokenKind.BONUS if accepted == drafted else TokenKind.CORRECTION
