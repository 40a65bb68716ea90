"""One generation on a device: draft, ask, check the verdict, hand out what was committed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from time import monotonic
from types import AsyncGeneratorType
from typing import cast

from dsdq.client import GenerationStats, Token, TokenKind
from dsdq.contract import FinishReason
from dsdq.errors import DsdqError, GoneError, SessionError
from dsdq.receipts import Receipt
from dsdq.stopping import ShownText
from dsdq.telemetry import traces
from dsdq.wire import ErrorCode, Verdict
from producers.device.link import SessionLink
from producers.device.rounds import Prepared, Rounds

ENDS_S = 5.0  # how long another task may take to end what it has under way


class DeviceGeneration:
    """See :class:`dsdq.client.Generation`. ``prepare`` runs when iteration starts, so that nothing happens unasked.

    ``on_failure`` is called when it fails: verifiers may not be as they were seen; ``keep`` with its receipt.
    """

    def __init__(
        self,
        prepare: Callable[[GenerationStats], Awaitable[Prepared]],
        on_failure: Callable[[], None],
        keep: Callable[[Receipt], None],
    ) -> None:
        self.session = ""
        self.ids: list[int] = []
        self.prompt_ids: tuple[int, ...] = ()
        self.stats = GenerationStats()
        self.finish_reason: FinishReason | None = None
        self.receipt: Receipt | None = None
        self._closing = False
        self._ended = asyncio.Event()
        self._prepare = prepare
        self._on_failure = on_failure
        self._keep = keep
        self._tokens: AsyncGeneratorType[Token, None] | None = None
        self._bursts: AsyncGeneratorType[list[Token], None] | None = None
        self._link: SessionLink | None = None

    def __aiter__(self) -> AsyncIterator[Token]:
        """Yield every committed token, in order, once."""
        if self._tokens is None:
            self._tokens = cast("AsyncGeneratorType[Token, None]", self._single())
        return self._tokens

    def bursts(self) -> AsyncIterator[list[Token]]:
        """Yield what was committed together, in order, once."""
        if self._bursts is None:
            self._bursts = cast("AsyncGeneratorType[list[Token], None]", self._run())
        return self._bursts

    async def aclose(self) -> None:
        """Cancel what still runs and free the session."""
        self._closing = True
        if self._tokens is not None and not self._tokens.ag_running:
            await self._tokens.aclose()
        if self._bursts is None:
            return
        if not self._bursts.ag_running:
            await self._bursts.aclose()
        elif self._link is not None:  # another task waits for its next token: end its wait
            await self._link.close(cancel=self.finish_reason is None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDS_S):
                    await self._ended.wait()

    async def _single(self) -> AsyncGenerator[Token, None]:
        async for tokens in self.bursts():
            for token in tokens:
                yield token

    async def _run(self) -> AsyncGenerator[list[Token], None]:
        started = monotonic()
        prepared = await self._prepare(self.stats)
        if self._closing:
            msg = "expected an open generation, it was closed"
            raise GoneError(msg)
        self._link, self.session = prepared.link, prepared.contract.session
        self.prompt_ids = prepared.prompt
        self.stats.prompt_tokens = len(prepared.prompt)
        rounds = Rounds(prepared, self.stats, self.ids)
        pieces = ShownText(prepared.tokenizer.stream(), prepared.contract.stop_strings)
        try:
            async for verdict in rounds.verdicts():
                self.finish_reason = rounds.finish_reason
                last = None if self.finish_reason is None else len(verdict.tokens) - 1
                burst = list[Token]()
                for place in range(self._shown(verdict), len(verdict.tokens)):
                    self._show(verdict.tokens[place], started)
                    text = pieces.push(verdict.tokens[place])
                    if place == last:
                        text += pieces.finish()
                    burst.append(_token(verdict, place, text))
                if burst:
                    yield burst
            self.finish_reason = rounds.finish_reason
        except DsdqError:
            self._on_failure()
            raise
        finally:
            self.receipt = rounds.receipt
            await prepared.link.close(cancel=rounds.finish_reason is None)
            self._ended.set()
            self._trace(started)
            if self.receipt is not None:
                self._keep(self.receipt)

    def _trace(self, started: float) -> None:
        stats, reason = self.stats, self.finish_reason
        traces.record_text(
            self.session,
            started,
            tokens=stats.committed_tokens,
            acceptance=stats.acceptance_rate,
            takeovers=stats.takeovers,
            ttft_ms=stats.ttft_ms,
            finish_reason="" if reason is None else str(reason),
        )

    def _show(self, token: int, started: float) -> None:
        self.ids.append(token)
        self.stats.committed_tokens = len(self.ids)
        self.stats.duration_ms = 1000 * (monotonic() - started)
        if len(self.ids) == 1:
            self.stats.ttft_ms = self.stats.duration_ms

    def _shown(self, verdict: Verdict) -> int:
        """Return how many of a verdict's tokens were shown before Redis lost the end of the log.

        Raises:
            SessionError: they are others now: the target does not say again what it said.
        """
        known = self.ids[verdict.base - len(self.prompt_ids) :][: len(verdict.tokens)]
        if tuple(known) != verdict.tokens[: len(known)]:
            msg = "Redis lost tokens that were shown, and the target does not say them again"
            raise SessionError(ErrorCode.LOG_LOST, msg)
        return len(known)


def _token(verdict: Verdict, place: int, text: str) -> Token:
    """Return one of a verdict's tokens with the text that it completes."""
    token, kind = verdict.tokens[place], _kind(place, verdict.accepted, verdict.drafted)
    if verdict.logprobs is None:
        return Token(token, text, kind)
    return Token(token, text, kind, float(verdict.logprobs.chosen[place]), verdict.logprobs.alternatives(place))


def _kind(position: int, accepted: int, drafted: int) -> TokenKind:
    if position < accepted:
        return TokenKind.ACCEPTED
    if not drafted:
        return TokenKind.TARGET
    return TokenKind.BONUS if accepted == drafted else TokenKind.CORRECTION
