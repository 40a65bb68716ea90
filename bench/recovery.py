"""How long a text pauses when the verifier that holds it is killed, or told to leave.

    python bench/recovery.py [--devices N] [--repeats N] [--json FILE]

Verifier processes of the target ``testing/hash`` with the default lease serve emulated devices that ask for one text of
up to 64 tokens after another. Again and again one verifier is ended: with SIGKILL, then with SIGTERM. For every session
that it held, the pause is from the last token before another took over to the first one after. Its parts, of which
those before the lapse hold for all sessions of one verifier:

    until lapse     from the signal to the end of the lease, as Redis has it (SIGKILL only)
    until opened    from there, or from the signal, to the new owner's ``opened`` in the session's log
    until token     from ``opened`` to the device's next token

The aim: a p50 under the lease and half a second.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import numpy as np
from redis.asyncio import Redis

from bench.options import options, write
from dsdq import keys
from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.errors import DsdqError
from dsdq.models.names import HASH_TARGET
from dsdq.settings import Settings
from dsdq.testing.hashed import VOCAB_SIZE
from dsdq.testing.killer import Killer, Victim
from dsdq.wire import Opened, unpack
from producers.device.over_redis import RedisClient

VERIFIERS = 3
PROMPT_TOKENS = 16
NEW_TOKENS = 48
DRAFT = "hash:0.8:10"
WINDOW = 4
LEASE_S = Settings.model_fields["lease_ms"].default / 1000
TENANT = "default"
QUIET_S = 1.5  # before and after: everybody generates, every verifier has its share
ALLOWED_S = LEASE_S + 0.5


@dataclass(frozen=True, slots=True)
class Kill:
    """The end of a verifier: when it was told, and when its lease ended; seconds since the epoch."""

    way: str
    worker: str
    at_s: float
    lapsed_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """One text's pause and its parts, in seconds."""

    way: str
    whole_s: float
    lapse_s: float
    opened_s: float
    token_s: float


class Device:
    """Asks for texts. ``texts`` holds, for each, when its tokens came; seconds since the epoch."""

    def __init__(self, url: str, number: int) -> None:
        self.producer = f"recovery-{number}"
        self.texts: list[list[float]] = []
        self._url = url
        self._rng = random.Random(number)

    async def run(self, enough: Callable[[], bool]) -> None:
        """Ask until it is enough."""
        async with RedisClient(self._url, producer=self.producer) as client:
            while not enough():
                self.texts.append([])
                prompt = [self._rng.randrange(VOCAB_SIZE) for _ in range(PROMPT_TOKENS)]
                async for _ in client.generate(prompt, draft=DRAFT, window=WINDOW, max_tokens=NEW_TOKENS):
                    self.texts[-1].append(time())

    def around(self, at_s: float) -> tuple[float, float] | None:
        """Return when the last token before a moment and the first one after came; None outside of texts."""
        for text in self.texts:
            place = bisect_left(text, at_s)
            if 0 < place < len(text):
                return text[place - 1], text[place]
        return None


async def measure(devices: int, repeats: int) -> list[Pause]:
    """Run the service, end verifiers, and return the pauses of the texts that they held."""
    # Every device drafts on a thread, and waits there as long as a real one would compute.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(devices))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedRedis(0))
        redis = open_redis(server.url)
        stack.push_async_callback(redis.aclose)
        killer = await stack.enter_async_context(Killer(serve(server.url)))
        for _ in range(VERIFIERS):
            await started(killer)
        fleet, done = [Device(server.url, number) for number in range(devices)], False
        running = [asyncio.create_task(device.run(lambda: done)) for device in fleet]
        kills = []
        for _ in range(repeats):
            for way, end in (("SIGKILL", Victim.kill), ("SIGTERM", Victim.terminate)):
                await asyncio.sleep(QUIET_S)
                kills.append(await end_one(redis, killer, way, end))
        await asyncio.sleep(LEASE_S)
        done = True
        await asyncio.gather(*running)
        return [pause for device in fleet for pause in await pauses(redis, device, kills)]


def serve(url: str) -> list[str | Path]:
    """Return the command of a verifier."""
    return [sys.executable, "-m", "dsdq", "verifier", "--redis", url, "--target", HASH_TARGET]


async def started(killer: Killer) -> Victim:
    """Start a verifier and wait until it serves.

    Raises:
        DsdqError: it ended instead.
    """
    victim = await killer.start()
    if not await victim.until_ready():
        msg = "expected a verifier to start, it ended; what it said is above"
        raise DsdqError(msg)
    return victim


async def end_one(redis: Redis, killer: Killer, way: str, end: Callable[[Victim], None]) -> Kill:
    """End the oldest verifier, see its lease run out, and start another in its place."""
    victim = killer.running[0]
    wid, at_s = victim.said.split()[1], time()  # "ready: ID serves ..."
    end(victim)
    lapses_ms = await redis.zscore(keys.workers(HASH_TARGET), wid) if way == "SIGKILL" else None
    await asyncio.sleep(LEASE_S + QUIET_S)
    await started(killer)
    return Kill(way, wid, at_s, at_s if lapses_ms is None else lapses_ms / 1000)


async def pauses(redis: Redis, device: Device, kills: Sequence[Kill]) -> list[Pause]:
    """Return the pauses of a device's texts that were taken over from a verifier that was ended."""
    ended = {kill.worker: kill for kill in kills}
    found = []
    for former, opened_s in moves(await redis.xrange(keys.feed(device.producer, TENANT))):
        around, kill = device.around(opened_s), ended.get(former)
        if around is not None and kill is not None and opened_s > kill.at_s:
            before_s, after_s = around
            found.append(
                Pause(
                    kill.way,
                    after_s - before_s,
                    kill.lapsed_s - kill.at_s,
                    opened_s - kill.lapsed_s,
                    after_s - opened_s,
                )
            )
    return found


def moves(entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[tuple[str, float]]:
    """Yield, for each session that changed hands, its former owner and when the new one said so, in Redis time."""
    owners: dict[bytes, str] = {}
    for entry_id, fields in entries:
        message = unpack(fields[b"m"])
        if isinstance(message, Opened):
            if former := owners.get(fields[b"s"]):
                yield former, int(entry_id.split(b"-")[0]) / 1000
            owners[fields[b"s"]] = message.worker


def summary(found: Sequence[Pause], devices: int, repeats: int) -> dict[str, Any]:
    """Return the JSON result, milliseconds."""
    ways = {}
    for way in ("SIGKILL", "SIGTERM"):
        ours = [pause for pause in found if pause.way == way]
        if not ours:
            msg = f"expected sessions that were taken over after {way}, there were none"
            raise DsdqError(msg)
        parts = {
            "pause": [pause.whole_s for pause in ours],
            "until_lapse": [pause.lapse_s for pause in ours],
            "until_opened": [pause.opened_s for pause in ours],
            "until_token": [pause.token_s for pause in ours],
        }
        ways[way] = {"takeovers": len(ours)} | {
            f"{name}_{share}_ms": 1000 * float(np.percentile(values, int(share[1:])))
            for name, values in parts.items()
            for share in ("p50", "p99")
        }
    return {
        "ways": ways,
        "aim_p50_ms": 1000 * ALLOWED_S,
        "lease_ms": 1000 * LEASE_S,
        "verifiers": VERIFIERS,
        "devices": devices,
        "repeats": repeats,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    size = f"{result['verifiers']} verifiers, {result['devices']} devices, each way {result['repeats']} times"
    print(f"machine: {result['machine']}; {size}")
    print(f"lease {result['lease_ms']:.0f} ms; aim: p50 of the pause after SIGKILL under {result['aim_p50_ms']:.0f} ms")
    print(f"{'':<9}{'takeovers':>9}{'':<9}{'pause ms':>9}{'until lapse':>13}{'until opened':>14}{'until token':>13}")
    for way, one in result["ways"].items():
        for share in ("p50", "p99"):
            names = ("pause", "until_lapse", "until_opened", "until_token")
            pause, lapse, opened, token = (one[f"{name}_{share}_ms"] for name in names)
            head = f"{way:<9}{one['takeovers']:>9}{share:>9}"
            print(f"{head}{pause:>9.0f}{lapse:>13.0f}{opened:>14.0f}{token:>13.0f}")


def main() -> int:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--devices", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.devices, arguments.repeats))
    result = summary(found, arguments.devices, arguments.repeats)
    show(result)
    write(result, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
