"""The clients of ``bench/capacity.py``: devices that know what they will be told, and crowds of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from statistics import median
from time import perf_counter, sleep
from typing import Any

import dsdq
from dsdq.contract import Contract
from dsdq.drafting import TO_THE_END, DraftSession, GoOn, Proposal
from dsdq.models.prompts import builtin_prompts
from dsdq.models.tokenizer import Tokenizer
from dsdq.tasks import end

DEVICE, COLOCATED, TARGET_ONLY, OPTIMAL = "device", "co-located", "target-only", "optimal"
WINDOW, DEPTH = 4, 2
CLIENTS_PER_CONNECTION = 16


@dataclass(frozen=True, slots=True)
class Effort:
    """Recorded texts, their tokens, and seconds: before a crowd is looked at, and while it is."""

    texts: int = 16
    tokens: int = 192
    settle_s: float = 3.0
    watch_s: float = 6.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A prompt, the target's text behind it, and at which of its places a draft is wrong."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    wrong: frozenset[int]


class Replay:
    """Drafts a text that is known, wrong where it was drafted wrong before, each token in ``token_ms``."""

    fingerprint, brief = "", False

    def __init__(self, recorded: Recorded, token_ms: float) -> None:
        self._recorded, self._token_s = recorded, token_ms / 1000

    def start(self, contract: Contract, tokenizer: Tokenizer) -> DraftSession:
        """Return the drafter: it keeps nothing of a session."""
        del contract, tokenizer
        return self

    def propose(self, text: Sequence[int], window: int, go_on: GoOn = TO_THE_END) -> Proposal:
        """Return what follows in the record; a wrong token is the right one's neighbour."""
        recorded, began_s, tokens = self._recorded, perf_counter(), list[int]()
        place = len(text) - len(recorded.prompt)
        for at in range(place, min(place + window, len(recorded.ids))):
            tokens.append(recorded.ids[at] ^ 1 if at in recorded.wrong else recorded.ids[at])
            sleep(max(0.0, began_s + len(tokens) * self._token_s - perf_counter()))
            if len(tokens) < window and not go_on(tokens, None):
                break
        return Proposal(tuple(tokens))


@dataclass
class Seen:
    """What a crowd showed while it was looked at.

    For each client its seconds between verdicts and the tokens of these; of verdicts the pass's milliseconds and rows.
    """

    waited_s: list[float]
    tokens: list[int]
    verify_ms: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    @property
    def tpot_ms(self) -> float:
        """Return the median client's time per output token; a client that got none has waited for one."""
        return 1000 * median(s / max(n, 1) for s, n in zip(self.waited_s, self.tokens, strict=True))


class Crowd:
    """Clients of one service that work one ``way``; their devices draft a token in ``token_ms``."""

    def __init__(self, url: str, records: Sequence[Recorded], way: str, token_ms: float, effort: Effort) -> None:
        self._url, self._records, self._way, self._effort = url, records, way, effort
        self._token_ms = token_ms

    async def watch(self, size: int) -> Seen:
        """Let so many clients come, wait until they have settled, and look at them for a while."""
        effort = self._effort
        begins_s = perf_counter() + effort.settle_s
        span = (begins_s, begins_s + effort.watch_s)
        seen = Seen([0.0] * size, [0] * size)
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(dsdq.connect(self._url))
                for _ in range(-(-size // CLIENTS_PER_CONNECTION))
            ]
            clients = [
                asyncio.create_task(self._client(connections[number // CLIENTS_PER_CONNECTION], number, span, seen))
                for number in range(size)
            ]
            await asyncio.wait(clients, timeout=span[1] - perf_counter(), return_when=asyncio.FIRST_EXCEPTION)
            for client in clients:
                if client.done():
                    client.result()
            await end(*clients)
        return seen

    async def _client(self, connection: dsdq.Client, number: int, span: tuple[float, float], seen: Seen) -> None:
        for text in count(number):
            record = self._records[text % len(self._records)]
            generation = connection.generate(record.prompt, **self._terms(record))
            last_s, verdicts, tokens = perf_counter(), 0, 0
            async for _ in generation:
                tokens += 1
                stats = generation.stats
                if len(stats.verify_ms) == verdicts:
                    continue  # of the same verdict
                now_s, newest = perf_counter(), len(stats.verify_ms)
                if verdicts and span[0] <= last_s and now_s <= span[1]:
                    seen.waited_s[number] += now_s - last_s
                    seen.tokens[number] += tokens - 1
                    seen.verify_ms += stats.verify_ms[verdicts:newest]
                    seen.rows += stats.batch_rows[verdicts:newest]
                last_s, verdicts, tokens = now_s, newest, 1

    def _terms(self, record: Recorded) -> dict[str, Any]:
        policies = {
            DEVICE: f"static:{WINDOW}:{DEPTH}",
            COLOCATED: f"co-located:{WINDOW}",
            TARGET_ONLY: "target-only",
            OPTIMAL: "optimal",
        }
        return {
            "draft": Replay(record, self._token_ms),
            "policy": policies[self._way],
            "window": WINDOW if self._way != OPTIMAL else 4 * WINDOW,
            "depth": DEPTH,
            "max_tokens": len(record.ids),
            "ignore_eos": True,
            "seed": 0,
        }


# The texts


async def record(url: str, tokenizer: Tokenizer, effort: Effort) -> list[Recorded]:
    """Have every text generated with the verifier's own drafts, and note where these were wrong."""
    prompts = [tuple(tokenizer.encode(text)) for text in builtin_prompts()[: effort.texts]]
    async with dsdq.connect(url) as client:
        return [await _recorded(client, prompt, effort.tokens) for prompt in prompts]


async def _recorded(client: dsdq.Client, prompt: tuple[int, ...], tokens: int) -> Recorded:
    wrong = set[int]()
    # At the places of bonus tokens nothing was drafted; another window drafts there.
    for window in (WINDOW, WINDOW + 1):
        generation = client.generate(
            prompt,
            draft="none",
            policy=f"co-located:{window}",
            window=window,
            max_tokens=tokens,
            ignore_eos=True,
            seed=0,
        )
        kinds = [token.kind async for token in generation]
        wrong |= {place for place, kind in enumerate(kinds) if kind is dsdq.TokenKind.CORRECTION}
    return Recorded(prompt, tuple(generation.ids), frozenset(wrong))
