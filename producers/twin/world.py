"""Pairs of models with their speeds, a service of one of them, and a link to it that takes its time."""

from __future__ import annotations

import asyncio
import os
import random
import selectors
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from dsdq.bus.embedded import EmbeddedRedis
from dsdq.errors import ConfigError, DsdqError
from dsdq.models.names import HASH_TARGET
from dsdq.models.prompts import builtin_prompts
from dsdq.processes import spawn
from dsdq.sim.observed import Observed
from dsdq.testing.cores import CLOUD_CORE, DEVICE_CORE, on_core
from dsdq.testing.proxy import FaultProxy, Faults, Line
from producers.demo.fleet import verifier
from producers.twin.device import Job

T = TypeVar("T")

BYTES_PER_S = 1_250_000
JITTER = 0.1
"""Of a mean round trip: so much may one take longer than another."""

_BEFORE = 1000
"""Of stated times, the text that devices make before another has so much higher a number."""

_KEPT = 16
"""So many of the built-in pair's prompts are for texts before others: of the texts that count none has one of them."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A pair of models and their speeds.

    Attributes:
        name: on the command line and in the result.
        about: in words.
        target: the verifier's model.
        draft: the device's drafter.
        own_draft: the verifier's drafter.
        step_ms: what a pass takes at least, for the hash model, without
        position_ms: what each of its positions adds.
        devices: that generate at the same time.
    """

    name: str
    about: str
    target: str
    draft: str
    own_draft: str
    step_ms: float = 0.0
    position_ms: float = 0.0
    devices: int = 1

    @property
    def emulated(self) -> bool:
        """Say whether the times are stated ones."""
        return self.step_ms > 0

    def check(self, texts: int) -> None:
        """Return if there are so many texts with prompts of their own.

        Raises:
            ConfigError: there are not.
        """
        most = (len(builtin_prompts()) - _KEPT) // self.devices
        if not self.emulated and texts > most:
            raise ConfigError(f"--texts: expected at most {most} at all round trips of {self.name}, got {texts}")

    def prompts(self, text: int) -> list[str] | list[list[int]]:
        """Return a prompt for each device; another text has others, as far as :meth:`check` says."""
        if self.emulated:
            return [[1 + text, 2 + device, 3] for device in range(self.devices)]
        known, first = builtin_prompts()[_KEPT:], text * self.devices
        return list(known[first : first + self.devices])

    def prompts_before(self, text: int) -> list[str] | list[list[int]]:
        """Return a prompt for each device's text before another, which does not count."""
        if self.emulated:
            return self.prompts(_BEFORE + text)
        return [builtin_prompts()[(text * self.devices + device) % _KEPT] for device in range(self.devices)]


VARIANTS = (
    Variant("pair", "the built-in pair, greedy", "builtin/target", "builtin/draft", "builtin/draft"),
    Variant("slow-target", "30 ms against 1 ms a token", HASH_TARGET, "hash:0.8:1", "hash:0.8:1", 30, 0.3),
    Variant("slow-device", "30 ms against 3 ms a token", HASH_TARGET, "hash:0.8:3", "hash:0.8:1", 30, 0.3),
    Variant("poor-draft", "30 ms against 1 ms a token", HASH_TARGET, "hash:0.1:1", "hash:0.1:1", 30, 0.3),
)
CROWD = Variant("crowd", "8 devices, 30 ms against 3 ms a token", HASH_TARGET, "hash:0.8:3", "hash:0.8:1", 30, 0.3, 8)


def jitter_ms(rtt_ms: float) -> float:
    """Return what a round trip takes longer than its least, on average, where it takes ``rtt_ms`` on average."""
    return JITTER * rtt_ms / 2


def link(rtt_ms: float) -> Faults:
    """Return the proxy's setting for a mean round trip; half of the jitter falls on each direction."""
    most_ms = JITTER * rtt_ms / 2
    line = Line(rtt_ms / 2 - most_ms / 2, most_ms, BYTES_PER_S)
    return Faults(up=line, down=line)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do what is to be done in worlds: asyncio's usual loop waits in whole milliseconds, and links would be late."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(work)


@dataclass(frozen=True, slots=True)
class World:
    """A variant's Redis and verifier, and devices that come and go; ``pinned`` if there is a core for each side."""

    variant: Variant
    url: str
    pinned: bool

    async def texts(
        self,
        rtt_ms: float,
        text: int,
        policies: Sequence[str],
        tokens: int,
        limit_s: float,
        acquainted: Sequence[str] = (),
    ) -> tuple[float, list[list[Observed]]]:
        """Let the devices generate a text each under every policy, one policy after the other, over one link.

        Those are new to the service but for the policies that they are ``acquainted`` with, by a short text.

        Returns:
            the link's round trip as it was measured, in milliseconds; and for each policy each device's text.

        Raises:
            DsdqError: the devices' process ended too early.
        """
        variant = self.variant
        async with FaultProxy(self.url, random.Random(text), link(rtt_ms)) as proxy:  # noqa: S311 - jitter
            job = Job(
                url=proxy.url,
                draft=variant.draft,
                prompts=variant.prompts(text),
                seed=text * variant.devices,
                tokens=tokens,
                limit_s=limit_s,
                policies=list(policies),
                acquainted=list(acquainted),
                before=variant.prompts_before(text),
                rtt_ms=rtt_ms - jitter_ms(rtt_ms),
                jitter_ms=jitter_ms(rtt_ms),
                core=DEVICE_CORE if self.pinned else None,
            )
            process = await spawn([sys.executable, "-m", "producers.twin.device", job.line()], stdout=True)
            try:
                lines = [await process.read_line() for _ in range(1 + len(policies) * variant.devices)]
            finally:
                await process.stop()
        if not lines[-1]:
            msg = "the devices ended before they had generated everything; what they said is above"
            raise DsdqError(msg)
        found = [Observed.model_validate_json(line) for line in lines[1:]]
        return float(lines[0]), [found[at : at + variant.devices] for at in range(0, len(found), variant.devices)]


@asynccontextmanager
async def world(variant: Variant) -> AsyncIterator[World]:
    """Run Redis and the variant's verifier, on a core of their own."""
    os.environ |= {  # the verifier process inherits them
        "DSDQ_HASH_STEP_MS": str(variant.step_ms),
        "DSDQ_HASH_POSITION_MS": str(variant.position_ms),
        "DSDQ_COLOCATED_DRAFT": variant.own_draft,
    }
    async with AsyncExitStack() as stack:
        with on_core(CLOUD_CORE) as pinned:
            redis = await stack.enter_async_context(EmbeddedRedis(port=0))
            await stack.enter_async_context(verifier(redis.url, variant.target))
        yield World(variant, redis.url, pinned)
