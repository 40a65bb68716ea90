"""One generation on a device: draft, ask, check the verdict, hand out what was committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter

from dsdq.client import GenerationStats, Token, TokenKind
from dsdq.contract import Contract, FinishReason
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.window import Observation, WindowPolicy
from dsdq.session import Transcript, check_verdict
from dsdq.wire import Closed, Decode, Draft, Verdict
from producers.device.link import SessionLink
from producers.drafters.protocol import DraftSession, Proposal


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a generation needs once prompt, tokenizer, drafter and verifier are known."""

    contract: Contract
    prompt: tuple[int, ...]
    tokenizer: Tokenizer
    draft: DraftSession
    policy: WindowPolicy
    link: SessionLink


class RedisGeneration:
    """See :class:`dsdq.client.Generation`. ``prepare`` runs when iteration starts, so that nothing happens unasked."""

    def __init__(self, prepare: Callable[[GenerationStats], Awaitable[Prepared]]) -> None:
        self.ids: list[int] = []
        self.prompt_ids: tuple[int, ...] = ()
        self.stats = GenerationStats()
        self.finish_reason: FinishReason | None = None
        self._prepare = prepare
        self._tokens: AsyncGenerator[Token, None] | None = None

    def __aiter__(self) -> AsyncIterator[Token]:
        """Yield every committed token, in order, once."""
        if self._tokens is None:
            self._tokens = self._run()
        return self._tokens

    async def aclose(self) -> None:
        """Cancel what still runs and free the session."""
        if self._tokens is not None:
            await self._tokens.aclose()

    async def _run(self) -> AsyncGenerator[Token, None]:
        started = perf_counter()
        prepared = await self._prepare(self.stats)
        self.prompt_ids = prepared.prompt
        self.stats.prompt_tokens = len(prepared.prompt)
        pieces = prepared.tokenizer.stream()
        try:
            async for token_id, kind in self._rounds(prepared):
                if not self.ids:
                    self.stats.ttft_ms = 1000 * (perf_counter() - started)
                self.ids.append(token_id)
                self.stats.committed_tokens = len(self.ids)
                self.stats.duration_ms = 1000 * (perf_counter() - started)
                yield Token(token_id, pieces.push(token_id), kind)
        finally:
            await prepared.link.close(cancel=self.finish_reason is None)

    async def _rounds(self, prepared: Prepared) -> AsyncIterator[tuple[int, TokenKind]]:
        """Yield (token id, kind) until the verifier closes the session."""
        contract, link, policy, stats = prepared.contract, prepared.link, prepared.policy, self.stats
        opened = await link.open(contract, prepared.prompt)
        transcript = Transcript.opened(link.contract_bytes, prepared.prompt)
        widest = opened.max_window
        branch = 0
        while self.finish_reason is None:
            began = perf_counter()
            window = min(policy.choose(), contract.max_window, widest)
            proposal = await asyncio.to_thread(prepared.draft.propose, transcript.tokens, window)
            draft_ms = 1000 * (perf_counter() - began)
            stats.draft_ms += draft_ms
            request = self._request(contract, transcript, branch, proposal)
            asked = perf_counter()
            async for verdict in self._answers(link, transcript, request):
                waited_ms = 1000 * (perf_counter() - asked)
                asked = perf_counter()
                stats.round_trips_ms.append(waited_ms)
                stats.queue_ms.append(verdict.queue_us / 1000)
                stats.verify_ms.append(verdict.verify_us / 1000)
                widest = verdict.max_window
                if verdict.accepted < len(proposal.tokens):
                    branch += 1
                policy.observe(
                    Observation(
                        drafted=len(proposal.tokens),
                        accepted=verdict.accepted,
                        draft_ms=draft_ms,
                        round_trip_ms=waited_ms,
                        queue_ms=verdict.queue_us / 1000,
                        verify_ms=verdict.verify_us / 1000,
                    )
                )
                for position, token in enumerate(verdict.tokens):
                    yield token, _kind(position, verdict.accepted, len(proposal.tokens))

    def _request(
        self, contract: Contract, transcript: Transcript, branch: int, proposal: Proposal
    ) -> Draft | Decode:
        self.stats.rounds += 1
        place = {
            "session": contract.session,
            "branch": branch,
            "round": self.stats.rounds,
            "base": transcript.length,
            "digest": transcript.digest,
        }
        if proposal.tokens:
            self.stats.drafted_tokens += len(proposal.tokens)
            return Draft(**place, tokens=proposal.tokens, law=proposal.law)
        left = contract.max_tokens - transcript.generated
        return Decode(**place, budget=min(max(proposal.budget, 1), left))

    async def _answers(
        self, link: SessionLink, transcript: Transcript, request: Draft | Decode
    ) -> AsyncIterator[Verdict]:
        """Yield the request's verdicts: one for a draft; for a grant, until its budget is used or the text ends."""
        end = request.base + (request.budget if isinstance(request, Decode) else 1)
        await link.ask(request)
        while transcript.length < end:
            message = await link.answer()
            if isinstance(message, Closed):
                self.finish_reason = message.reason
                return
            check_verdict(transcript, message)
            self.stats.accepted_tokens += message.accepted
            yield message
            if link.ended:
                continue


def _kind(position: int, accepted: int, drafted: int) -> TokenKind:
    if position < accepted:
        return TokenKind.ACCEPTED
    if not drafted:
        return TokenKind.TARGET
    return TokenKind.BONUS if accepted == drafted else TokenKind.CORRECTION
