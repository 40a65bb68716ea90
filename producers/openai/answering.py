"""Answering a request: its texts are generated at the same time, by the very client that devices use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from time import monotonic

from dsdq.bus.registry import WorkerInfo
from dsdq.client import GenerationStats, Token
from dsdq.errors import ConfigError, DsdqError
from dsdq.models.tokenizer import Tokenizer
from dsdq.tasks import end, run_all
from dsdq.telemetry.logs import get_logger
from dsdq.tenants import Tenant
from producers.device.choosing import WIDEST
from producers.device.client import RedisClient
from producers.device.generation import RedisGeneration
from producers.device.models import Models
from producers.openai import chat
from producers.openai.answers import Json, Shape, finish_reason
from producers.openai.clients import Clients
from producers.openai.drafts import Drafts
from producers.openai.errors import ApiError, api_error, too_long, unknown_model
from producers.openai.requests import TextRequest

log = get_logger("openai")

BURSTS_AHEAD = 16  # of one request: a client that reads slowly makes its texts wait
KNOWN_S = 600.0  # a model that nobody serves just now may come back
LONG_CHARACTERS = 20_000  # a prompt that takes milliseconds to encode is encoded beside the loop

Burst = tuple[int, list[Token]]


class Answering:
    """Answers requests of any tenant."""

    def __init__(self, clients: Clients, models: Models, drafts: Drafts) -> None:
        self._clients, self._models, self._drafts = clients, models, drafts
        self._served: dict[str, tuple[float, WorkerInfo]] = {}  # by model, with when it was seen

    async def models(self, tenant: Tenant) -> list[WorkerInfo]:
        """Return a verifier of each model that is served.

        Raises:
            ApiError: that cannot be known now.
        """
        try:
            client = await self._clients.of(tenant)
            workers = await client.workers()
        except DsdqError as error:
            raise api_error(error) from error
        self._served |= {worker.model: (monotonic(), worker) for worker in workers}
        return [one for seen_s, one in self._served.values() if monotonic() - seen_s < KNOWN_S]

    async def begin(self, tenant: Tenant, request: TextRequest, seed: int | None = None) -> Answer:
        """Begin to answer; ``seed`` is for a request that names none. Return when the first tokens are here.

        Raises:
            ApiError: the request cannot be served.
        """
        try:
            return await self._begin(tenant, request, seed)
        except DsdqError as error:
            raise api_error(error) from error

    async def _begin(self, tenant: Tenant, request: TextRequest, seed: int | None) -> Answer:
        client = await self._clients.of(tenant)
        worker = await self._worker(tenant, client, request.model)
        tokenizer = await self._models.tokenizer(worker.tokenizer)
        prompts = await self._prompts(tokenizer, request)
        tokens = _bounded(request, prompts, worker.context_tokens)
        asked = replace(request, seed=seed if request.seed is None else request.seed)
        drafter = await self._drafts.of(worker)
        generations = [
            client.generate(
                prompt,
                draft=drafter,
                model=request.model,
                sampling=asked.sampling,
                max_tokens=most,
                seed=asked.seed,
                stop=asked.stop,
                stop_ids=asked.stop_ids,
                ignore_eos=asked.ignore_eos,
                logprobs=asked.logprobs,
                choice=choice,
            )
            for prompt, most in zip(prompts, tokens, strict=True)
            for choice in range(request.n)
        ]
        answer = Answer(Shape(request, tokenizer), generations)
        try:
            await answer.start()
        except BaseException:
            await answer.aclose()
            raise
        return answer

    async def _worker(self, tenant: Tenant, client: RedisClient, model: str) -> WorkerInfo:
        """Return a verifier of a model as it was seen last: texts find theirs by themselves."""
        workers = await client.workers(model)
        if workers:
            self._served[model] = monotonic(), workers[0]
            return workers[0]
        await self.models(tenant)
        seen_s, worker = self._served.get(model, (0.0, None))
        if worker is None or monotonic() - seen_s > KNOWN_S:
            if not self._served:
                raise ConfigError("expected a verifier, found none; start one with `dsdq verifier`")
            raise unknown_model(model)
        return worker

    async def _prompts(self, tokenizer: Tokenizer, request: TextRequest) -> list[list[int]]:
        def encoded() -> list[list[int]]:
            """Return the prompts' ids."""
            if request.is_chat:
                return [chat.render(tokenizer, request.messages, request.model)]
            return [tokenizer.encode(one) if isinstance(one, str) else list(one) for one in request.prompts]

        characters = sum(len(one) for one in request.prompts) + sum(len(one.content) for one in request.messages)
        return await asyncio.to_thread(encoded) if characters > LONG_CHARACTERS else encoded()


class Answer:
    """One request's texts while they are made. Whoever has it closes it."""

    def __init__(self, shape: Shape, generations: list[RedisGeneration]) -> None:
        self.shape = shape
        self._generations = generations
        self._bursts: asyncio.Queue[Burst | DsdqError] = asyncio.Queue(BURSTS_AHEAD)
        self._reading: list[asyncio.Task[None]] = []
        self._first: Burst | None = None

    @property
    def stats(self) -> list[GenerationStats]:
        """Return the figures of each text."""
        return [generation.stats for generation in self._generations]

    async def start(self) -> None:
        """Begin all texts and wait for the first tokens of one.

        Raises:
            DsdqError: one of them failed.
        """
        self._reading = [
            asyncio.create_task(self._read(index, generation)) for index, generation in enumerate(self._generations)
        ]
        self._first = await self._next()

    async def bursts(self) -> AsyncIterator[Burst]:
        """Yield which choice's tokens came together, as they come; a choice that has ended gives none, once.

        Raises:
            ApiError: one of them failed.
        """
        left = len(self._generations)
        try:
            while left:
                burst, self._first = self._first or await self._next(), None
                left -= not burst[1]
                yield burst
        except DsdqError as error:
            raise api_error(error) from error

    async def whole(self) -> Json:
        """Return the answer as one object, when all its texts are done.

        Raises:
            ApiError: one of them failed.
        """
        texts: list[list[Token]] = [[] for _ in self._generations]
        async for index, tokens in self.bursts():
            texts[index].extend(tokens)
        return self.shape.whole(texts, [self.reason(index) for index in range(len(texts))], self.stats)

    async def chunks(self) -> AsyncIterator[Json]:
        """Yield the answer's chunks as its tokens come.

        Raises:
            ApiError: one of its texts failed.
        """
        shown = dict[int, int]()
        async for index, tokens in self.bursts():
            if index not in shown and (beginning := self.shape.begin(index)) is not None:
                yield beginning
            offset = shown.setdefault(index, 0)
            if not tokens:
                yield self.shape.end(index, self.reason(index), self.stats[index])
            elif self._says_something(tokens):
                yield self.shape.chunk(index, tokens, offset)
            shown[index] += sum(len(token.text) for token in tokens)
        if (last := self.shape.last(self.stats)) is not None:
            yield last

    def reason(self, index: int) -> str:
        """Return why a choice ended."""
        return finish_reason(self._generations[index].finish_reason)

    async def aclose(self) -> None:
        """Cancel what still runs; its sessions are told."""
        await run_all(*(generation.aclose() for generation in self._generations))
        await end(*self._reading)

    def _says_something(self, tokens: list[Token]) -> bool:
        request = self.shape.request
        return request.return_tokens or request.top_logprobs is not None or any(token.text for token in tokens)

    async def _read(self, index: int, generation: RedisGeneration) -> None:
        try:
            async for tokens in generation.bursts():
                await self._bursts.put((index, tokens))
            await self._bursts.put((index, []))
        except DsdqError as error:
            await self._bursts.put(error)

    async def _next(self) -> Burst:
        found = await self._bursts.get()
        if isinstance(found, DsdqError):
            raise found
        return found


def _bounded(request: TextRequest, prompts: list[list[int]], context_tokens: int) -> list[int]:
    """Return how many tokens may follow each prompt, in a context of so many.

    Raises:
        ApiError: there is no room for as many as were asked for, or for any.
    """
    tokens = []
    for prompt in prompts:
        # A context has to hold a draft behind the text, too.
        room = context_tokens - len(prompt) - WIDEST
        wanted = max(1, room) if request.max_tokens is None else request.max_tokens
        if wanted > room:
            raise too_long(len(prompt), wanted, context_tokens - WIDEST)
        tokens.append(wanted)
    return tokens


def failure(error: BaseException) -> ApiError:
    """Return what a client is told of an error that nobody expected; it is logged with where it came from."""
    log.error("request failed", exc_info=error)
    return ApiError(500, "The server failed on this request; it has been logged", "internal", kind="server_error")
