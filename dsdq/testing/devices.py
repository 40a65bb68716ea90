"""Emulated devices: real clients, hundreds in one process, that ask for one text after another.

They draft the hash model's text (:mod:`dsdq.testing.hashed`) at a chosen acceptance and speed, so that no model is
loaded and every text is known beforehand.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import dsdq
from dsdq.contract import FinishReason, Sampling
from dsdq.errors import DsdqError
from dsdq.testing.hashed import VOCAB_SIZE

PROMPT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Habits:
    """What a device does: how it drafts, and what texts it asks for (a number of tokens between two bounds)."""

    draft: str = "hash:0.8"
    window: int = 6
    depth: int = 1
    least_tokens: int = 16
    most_tokens: int = 64


@dataclass(slots=True)
class Text:
    """One text that a device asked for: what it showed, how it ended, and its longest wait for a token in seconds."""

    prompt: tuple[int, ...]
    shown: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: str = ""
    repeats: int = 0
    longest_pause_s: float = 0.0


class EmulatedDevice:
    """One device. ``texts`` are those it asked for; the last may still grow. ``connected`` says that it has begun.

    Every prompt is drawn from ``rng`` and is unlike any other's, so that its session can be told by it.
    """

    def __init__(self, url: str, rng: random.Random, habits: Habits) -> None:
        self.texts: list[Text] = []
        self.connected = asyncio.Event()
        self._url = url
        self._rng = rng
        self._habits = habits

    async def run(self, enough: Callable[[], bool]) -> None:
        """Ask for texts until it is ``enough``, which is asked between two texts. What fails is written down.

        Raises:
            BusError: there is no way into the service at the start.
        """
        async with dsdq.connect(self._url) as client:
            self.connected.set()
            while not enough():
                await self._ask(client)

    async def _ask(self, client: dsdq.Client) -> None:
        rng, habits = self._rng, self._habits
        text = Text(tuple(rng.randrange(VOCAB_SIZE) for _ in range(PROMPT_TOKENS)))
        self.texts.append(text)
        generation = client.generate(
            text.prompt,
            draft=habits.draft,
            window=habits.window,
            depth=habits.depth,
            max_tokens=rng.randint(habits.least_tokens, habits.most_tokens),
            sampling=Sampling(temperature=rng.choice((0.0, 1.0))),
            seed=rng.getrandbits(64),
        )
        try:
            await _listen(generation, text)
        except DsdqError as error:
            text.error = f"{type(error).__name__}: {error}"
        text.finish_reason = generation.finish_reason
        text.repeats = generation.stats.repeats


async def _listen(generation: dsdq.Generation, text: Text) -> None:
    last_s = monotonic()
    async for token in generation:
        now_s = monotonic()
        text.longest_pause_s = max(text.longest_pause_s, now_s - last_s)
        last_s = now_s
        text.shown.append(token.id)
