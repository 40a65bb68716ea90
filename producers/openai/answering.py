"""Answering a request: its texts are generated at the same time, by the very client that devices use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from dsdq.bus.registry import WorkerInfo
from dsdq.client import GenerationStats, Token
from dsdq.errors import ConfigError, DsdqError
from dsdq.models.tokenizer import Tokenizer
from dsdq.tasks import end, run_all
from dsdq.telemetry.logs import get_logger
from dsdq.tenants import Tenant
from producers.device.choosing import WIDEST
from producers.device.generation import DeviceGeneration
from producers.device.models import Models
from producers.openai import chat
from producers.openai.answers import Json, Shape, finish_reason
from producers.openai.clients import Clients
from producers.openai.drafts import Drafts
from producers.openai.errors import api_error, failure, too_long, unknown_model
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
        """Return a verifier of each model that is served, or was until a moment ago: it may come back.

        Raises:
            DsdqError: that cannot be known now.
        """
        now_s, client = monotonic(), await self._clients.of(tenant)
        self._served |= {worker.model: (now_s, worker) for worker in await client.workers()}
        self._served = {name: seen for name, seen in self._served.items() if now_s - seen[0] < KNOWN_S}
        return [worker for _, worker in self._served.values()]

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
        worker = await self._worker(tenant, request.model)
        tokenizer = await self._models.tokenizer(worker.tokenizer)
        prompts = await self._prompts(tokenizer, request)
        tokens = _bounded(request, prompts, worker.context_tokens)
        drafter = await self._drafts.of(worker)
        generations = [
            client.generate(
                prompt,
                draft=drafter,
                model=request.model,
                sampling=request.sampling,
                max_tokens=most,
                seed=seed if request.seed is None else request.seed,
                stop=request.stop,
                stop_ids=request.stop_ids,
                ignore_eos=request.ignore_eos,
                logprobs=request.logprobs,
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

    async def _worker(self, tenant: Tenant, model: str) -> WorkerInfo:
        """Return a verifier of a model; texts find theirs by themselves. Redis is not asked about names by clients.

        Raises:
            ApiError: nobody serves it.
        """
        served = await self.models(tenant)
        if not served:
            raise ConfigError("expected a verifier, found none; start one with `dsdq verifier`")
        for worker in served:
            if worker.model == model:
                return worker
        raise unknown_model(model)

    async def _prompts(self, tokenizer: Tokenizer, request: TextRequest) -> list[list[int]]:
        def encoded() -> list[list[int]]:
            """Return the prompts' ids."""
            if request.is_chat:
                return [chat.render(tokenizer, request.messages, request.model)]
            return [tokenizer.encode(one) if isinstance(one, str) else list(one) for one in request.prompts]

        characters = sum(len(one) for one in request.prompts) + sum(len(one.text) for one in request.messages)
        return await asyncio.to_thread(encoded) if characters > LONG_CHARACTERS else encoded()


class Answer:
    """One request's texts while they are made. Whoever has it closes it."""

    def __init__(self, shape: Shape, generations: list[DeviceGeneration]) -> None:
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
        tokens = sum(one.committed_tokens for one in self.stats)
        log.info("answered", answer=self.shape.name, sessions=[one.session for one in self._generations], tokens=tokens)

    def _says_something(self, tokens: list[Token]) -> bool:
        request = self.shape.request
        return request.return_tokens or request.top_logprobs is not None or any(token.text for token in tokens)

    async def _read(self, index: int, generation: DeviceGeneration) -> None:
        try:
            async for tokens in generation.bursts():
                await self._bursts.put((index, tokens))
            await self._bursts.put((index, []))
        except DsdqError as error:
            await self._bursts.put(error)
        except Exception as error:  # noqa: BLE001 - whoever waits for tokens is to hear of it
            await self._bursts.put(failure(error))

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
