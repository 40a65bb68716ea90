"""A runner for ``/v1/completions`` over the client that speaks Redis: one client a tenant, one drafter for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import dsdq
from dsdq.client import Client, Generation
from dsdq.contract import MAX_SEED, MAX_TOKENS, Sampling
from dsdq.drafting import Drafter
from dsdq.errors import ConfigError, PromptError
from producers.batch.runner import COMPLETIONS, Answer
from producers.drafters import load_drafter

DEFAULT_TOKENS = 16  # OpenAI's


class CompletionsRunner:
    """See :class:`producers.batch.runner.Runner`. ``draft`` is a drafter's name."""

    def __init__(self, url: str, draft: str) -> None:
        self._url = url
        self._draft = draft
        self._drafter: Drafter | None = None
        self._clients: dict[str, Client] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def load(self) -> None:
        """Load the drafter.

        Raises:
            ConfigError, ModelError: there is none of that name, or it cannot be loaded.
        """
        if self._drafter is None:
            self._drafter = await asyncio.to_thread(load_drafter, self._draft)

    async def __call__(self, tenant: str, endpoint: str, body: dict[str, Any], seed: int) -> Answer:
        """Return what becomes of a request."""
        if endpoint != COMPLETIONS:
            return Answer.refused(400, f"url: expected {COMPLETIONS}, got {endpoint}", "invalid_url")
        try:
            options = _options(body, seed)
        except ConfigError as error:
            return Answer.refused(400, str(error), "invalid_request")
        client, drafter = await self._connected(tenant)
        generation = client.generate(body["prompt"], draft=drafter, **options)
        async with aclosing(generation):
            text = "".join([token.text async for token in generation])
        return Answer(200, _body(generation, text, body))

    async def aclose(self) -> None:
        """Disconnect."""
        await self._stack.aclose()

    async def _connected(self, tenant: str) -> tuple[Client, Drafter | str]:
        async with self._opening:
            await self.load()
            if tenant not in self._clients:
                self._clients[tenant] = await self._stack.enter_async_context(dsdq.connect(self._url, tenant=tenant))
        return self._clients[tenant], self._drafter or self._draft


def _options(body: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return what a body asks for, as the client takes it.

    Raises:
        ConfigError: something of it is not what was expected.
    """
    _expect(body, "prompt", "a text or token ids", _is_prompt)
    for name, expected in (("n", 1), ("stream", False), ("echo", False), ("best_of", 1)):
        _expect(body, name, f"{expected!r}", lambda value, expected=expected: value in {None, expected})  # type: ignore[misc]
    _expect(body, "max_tokens", f"1 to {MAX_TOKENS}", lambda value: value is None or _is_int(value, 1, MAX_TOKENS))
    _expect(body, "seed", f"0 to {MAX_SEED}", lambda value: value is None or _is_int(value, 0, MAX_SEED))
    _expect(body, "model", "a text", lambda value: value is None or isinstance(value, str))
    for name in ("temperature", "top_p"):
        _expect(body, name, "a number", lambda value: value is None or type(value) in {int, float})
    temperature, top_p = (1.0 if body.get(name) is None else float(body[name]) for name in ("temperature", "top_p"))
    return {
        "sampling": Sampling(temperature=temperature, top_p=top_p),
        "max_tokens": body.get("max_tokens") or DEFAULT_TOKENS,
        "seed": seed if body.get("seed") is None else body["seed"],
        "model": body.get("model"),
    }


def _expect(body: dict[str, Any], name: str, expected: str, holds: Callable[[Any], bool]) -> None:
    if not holds(body.get(name)):
        raise PromptError(f"{name}: expected {expected}, got {body.get(name)!r:.80}")


def _is_prompt(value: Any) -> bool:  # noqa: ANN401
    return bool(value) and (
        isinstance(value, str) or (isinstance(value, list) and all(_is_int(one, 0) for one in value))
    )


def _is_int(value: Any, least: int, most: int = 1 << 31) -> bool:  # noqa: ANN401
    return type(value) is int and least <= value <= most


def _body(generation: Generation, text: str, body: dict[str, Any]) -> dict[str, Any]:
    stats = generation.stats
    return {
        "object": "text_completion",
        "model": body.get("model"),
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": generation.finish_reason}],
        "usage": {
            "prompt_tokens": stats.prompt_tokens,
            "completion_tokens": stats.committed_tokens,
            "total_tokens": stats.prompt_tokens + stats.committed_tokens,
        },
        "metrics": {
            "drafted_tokens": stats.drafted_tokens,
            "judged_tokens": stats.judged_tokens,
            "accepted_tokens": stats.accepted_tokens,
        },
    }
