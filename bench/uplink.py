"""Bytes that a device sends and gets for each committed token: in messages, and on the socket.

    python -m bench.uplink [--quick] [--json FILE]

A device generates through a proxy that counts every byte of its connections to Redis, 20 ms away in each direction.
The verifier is a process with the target ``testing/hash`` (10 ms a step), the device drafts with ``hash:0.8:2``: 80 %
of its tokens are right and each takes 2 ms. Compared, for windows of 2 to 16 tokens and 1 to 4 of them in flight, with
the target alone, which streams. What is sent before the first token (connecting, opening) is not counted.

``message`` is the protocol's own messages, ``socket`` all that crosses: commands with keys, script and framing, the
reads that wait, the replies. TCP and IP add some 40 to 60 bytes a packet, which is not seen from here.

The second table is of one window's way up, taken apart: as it was recorded, and with ids as they are where a vocabulary
has more than 65,536 tokens, and with a seal.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import hiredis

import dsdq
from bench.options import options, write
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.processes import spawn
from dsdq.sealing import KEY_BYTES, sealed
from dsdq.testing.proxy import FaultProxy, Faults, Line
from dsdq.wire import Draft, pack, unpack

TARGET, DRAFTER, STEP_MS = "testing/hash", "hash:0.8:2", 10
ONE_WAY = Line(delay_ms=20.0)
WINDOWS, DEPTHS, NEW_TOKENS = (2, 4, 8, 16), (1, 2, 3, 4), 256
QUICK_WINDOWS, QUICK_DEPTHS, QUICK_TOKENS = (4, 8), (1, 2), 64
TYPICAL_WINDOW = 8
LARGE_ID = 150_000
PROMPT = tuple(range(5, 37))


@dataclass(slots=True)
class Heard:
    """The requests that were heard at the proxy: one publication of each kind that is looked at."""

    drafts: list[list[bytes]] = field(default_factory=list)

    def hear(self, words: list[bytes]) -> None:
        """Keep the words of a publication of a whole typical window."""
        if words[0].upper() == b"EVALSHA" and len(words) > 6 and words[6][:1] >= b"\x80":
            message = unpack(words[6])
            if isinstance(message, Draft) and len(message.tokens) == TYPICAL_WINDOW:
                self.drafts.append(words)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Run Redis and a verifier; give the server's URL."""
    os.environ["DSDQ_HASH_STEP_MS"] = str(STEP_MS)  # the verifier inherits it
    async with EmbeddedRedis() as redis:
        command = [sys.executable, "-m", "dsdq", "verifier", "--redis", redis.url, "--target", TARGET]
        child = await spawn(command, stdout=True)
        try:
            await child.read_line()
            yield redis.url
        finally:
            await child.stop()


async def measure(url: str, draft: str, window: int, depth: int, tokens: int, heard: Heard) -> dict[str, float]:
    """Generate once; return bytes per committed token between the first verdict and the last token."""
    faults = Faults(up=ONE_WAY, down=ONE_WAY)
    async with FaultProxy(url, random.Random(1), faults, heard.hear) as proxy, dsdq.connect(proxy.url) as client:
        generation = client.generate(
            PROMPT, draft=draft, window=window, depth=depth, max_tokens=tokens, ignore_eos=True, seed=1
        )
        stats = generation.stats
        first: tuple[int, ...] = ()
        async for _ in generation:
            first = first or (
                stats.committed_tokens,
                proxy.bytes_up,
                proxy.bytes_down,
                stats.bytes_up,
                stats.bytes_down,
            )
        last = (stats.committed_tokens, proxy.bytes_up, proxy.bytes_down, stats.bytes_up, stats.bytes_down)
    committed, up, down, messages_up, messages_down = (
        after - before for after, before in zip(last, first, strict=True)
    )
    return {
        "window": window,
        "depth": depth,
        "tokens_per_round": stats.committed_tokens / len(stats.round_trips_ms),
        "tokens_per_s": stats.tokens_per_s,
        "repeats": stats.repeats,
        "message_up": messages_up / committed,
        "socket_up": up / committed,
        "message_down": messages_down / committed,
        "socket_down": down / committed,
    }


def parts(words: Sequence[bytes]) -> dict[str, int]:
    """Return where the bytes of one publication go."""
    draft = unpack(words[6])
    assert isinstance(draft, Draft)  # noqa: S101 - it was chosen for that
    ids = len(pack(draft)) - len(pack(replace(draft, tokens=())))
    found = {
        "ids": ids,
        "digest": len(draft.digest),
        "session": len(draft.session),
        "rest of the message": len(words[6]) - ids - len(draft.digest) - len(draft.session),
        "script's name": len(words[1]),
        "keys": sum(map(len, words[3:6])),
        "producer": len(words[8]),
        "seal: session and MAC": sum(map(len, words[9:])),
    }
    whole = len(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type] # its stub means one word
    return {**found, "command and framing": whole - sum(found.values()), "all": whole}


def taken_apart(words: Sequence[bytes]) -> dict[str, dict[str, int]]:
    """Return the parts of a publication as it was, with ids of a large vocabulary, and with a seal too."""
    draft = unpack(words[6])
    assert isinstance(draft, Draft)  # noqa: S101 - it was chosen for that
    large = pack(replace(draft, tokens=(LARGE_ID,) * len(draft.tokens)))
    seal = sealed(bytes(KEY_BYTES), words[8].decode(), draft.session, large)
    return {
        "as recorded": parts(words),
        "large vocabulary": parts([*words[:6], large, *words[7:]]),
        "large vocabulary, sealed": parts([*words[:6], large, *words[7:], seal.session.encode(), seal.mac]),
    }


async def run(*, quick: bool) -> dict[str, Any]:
    """Measure all ways."""
    windows, depths, tokens = (QUICK_WINDOWS, QUICK_DEPTHS, QUICK_TOKENS) if quick else (WINDOWS, DEPTHS, NEW_TOKENS)
    heard = Heard()
    async with serving() as url:
        stream = await measure(url, "none", 1, 1, tokens, heard)
        rounds = [await measure(url, DRAFTER, window, depth, tokens, heard) for window in windows for depth in depths]
    return {
        "streamed": stream,
        "drafted": rounds,
        "one_window_up": taken_apart(heard.drafts[-1]),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"machine: {result['machine']}; bytes per committed token; a round trip of 40 ms")
    columns = ("window x depth", "tokens/round", "tokens/s", "up: message", "socket", "down: message", "socket")
    print(f"{columns[0]:<16}" + "".join(f"{name:>15}" for name in columns[1:]))
    figures = ("tokens_per_round", "tokens_per_s", "message_up", "socket_up", "message_down", "socket_down")
    for one in (*result["drafted"], result["streamed"]):
        name = "target alone" if one is result["streamed"] else f"{one['window']} x {one['depth']}"
        print(f"{name:<16}" + "".join(f"{one[figure]:>15.1f}" for figure in figures))
    kinds = result["one_window_up"]
    print(f"\none window of {TYPICAL_WINDOW} on its way up, bytes")
    print(f"{'':<24}" + "".join(f"{kind:>26}" for kind in kinds))
    for part in next(iter(kinds.values())):
        print(f"{part:<24}" + "".join(f"{found[part]:>26}" for found in kinds.values()))


def main() -> int:
    """Measure, print, write."""
    arguments = options(__doc__, quick="fewer windows, depths and tokens").parse_args()
    result = asyncio.run(run(quick=arguments.quick))
    show(result)
    write(result, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
