"""What HTTP costs: the same texts through the gateway and through the Python client directly, in the same run.

    python bench/gateway.py [--quick] [--json FILE]

*Streams*: the built-in pair, greedy; one prompt at a time, and eight at once. Both ways draft with ``builtin/draft``:
the client in this process, the gateway in its own. All texts are compared. ``tpot_overhead`` is the median, over the
texts of one stream at a time, of the time for a token (behind the first) over HTTP to that of the client; ``ttft``
likewise for the time to the first token. *Requests*: whole answers of 16 tokens, sixteen at once, per second.

*Crowd*: 500 streams at once over ``testing/hash`` with steps of 20 ms; every text is held against the known one, and
the gateway's resident memory is looked at before, while they run, and after them.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

os.environ |= {"DSDQ_HASH_STEP_MS": "20", "DSDQ_SLOTS": "512", "DSDQ_ALLOW_UNSAFE_REDIS": "1"}

import psutil

import dsdq
from bench.options import options, write
from dsdq.bus.embedded import EmbeddedRedis
from dsdq.models.names import HASH_TARGET
from dsdq.models.prompts import builtin_prompts
from dsdq.models.tokenizer import Tokenizer
from dsdq.processes import spawn
from dsdq.testing.hashed import decode
from producers.demo.fleet import verifier

TARGET, DRAFT = "builtin/target", "builtin/draft"
TOKENS, SHORT, CROWD_TOKENS = 128, 16, 64
TOGETHER, ASKING, CROWD = 8, 16, 500
MIB = 1 << 20


@dataclass
class Text:
    """One text as its reader saw it, in milliseconds."""

    text: str
    ttft_ms: float
    tpot_ms: float


Way = Callable[[str, int], Awaitable[Text]]


@asynccontextmanager
async def gateway(redis: str, draft: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run a gateway; give where it listens and its process."""
    command = [sys.executable, "-m", "dsdq", "gateway", "--redis", redis, "--port", "0", "--draft", draft]
    child = await spawn(command, stdout=True)
    try:
        yield urlsplit((await child.read_line()).split()[1]).netloc, psutil.Process(child.pid)
    finally:
        await child.stop()


async def post(place: str, body: dict[str, Any]) -> AsyncIterator[tuple[float, dict[str, Any]]]:
    """Ask for a text and yield each event with when it came; a client of its own would cost more than what it asks."""
    host, _, port = place.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        payload = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: {place}\r\ncontent-length: {len(payload)}\r\n\r\n"
        writer.write(head.encode() + payload)
        status = await reader.readline()
        if b" 200 " not in status:
            msg = f"the gateway answered {status!r}"
            raise RuntimeError(msg)
        while (line := await reader.readline()) != b"data: [DONE]\n":
            if line.startswith(b"data: "):
                yield perf_counter(), json.loads(line[6:])
    finally:
        writer.close()


def over_http(place: str, model: str) -> Way:
    """Return the way through the gateway."""

    async def ask(prompt: str, tokens: int) -> Text:
        began, seen, text = perf_counter(), list[float](), ""
        body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
        async for at, chunk in post(place, body | {"ignore_eos": True}):
            if chunk["choices"][0]["text"]:
                seen.append(at)
                text += chunk["choices"][0]["text"]
        return Text(text, 1000 * (seen[0] - began), 1000 * (seen[-1] - seen[0]) / (tokens - 1))

    return ask


def by_client(client: dsdq.Client) -> Way:
    """Return the way through the Python client."""

    async def ask(prompt: str, tokens: int) -> Text:
        began, seen, text = perf_counter(), list[float](), ""
        async for token in client.generate(prompt, draft=DRAFT, max_tokens=tokens, ignore_eos=True):
            seen.append(perf_counter())
            text += token.text
        return Text(text, 1000 * (seen[0] - began), 1000 * (seen[-1] - seen[0]) / (tokens - 1))

    return ask


async def streams(ways: dict[str, Way], prompts: Sequence[str], repeats: int, at_once: int) -> dict[str, Any]:
    """Return medians of each way, and of the ratios text by text; the ways take turns."""
    found: dict[str, list[Text]] = {name: [] for name in ways}
    for _ in range(repeats):
        for first in range(0, len(prompts), at_once):
            for name, way in ways.items():
                found[name] += await asyncio.gather(*(way(one, TOKENS) for one in prompts[first : first + at_once]))
    http, direct = found["http"], found["client"]
    if [one.text for one in http] != [one.text for one in direct]:
        msg = "the gateway's texts are not the client's"
        raise RuntimeError(msg)
    medians = {
        f"{name}_{what}": median(getattr(one, what) for one in texts)
        for name, texts in found.items()
        for what in ("ttft_ms", "tpot_ms")
    }
    pairs = list(zip(http, direct, strict=True))
    ratios = {
        "tpot_overhead": median(mine.tpot_ms / theirs.tpot_ms for mine, theirs in pairs),
        "ttft_overhead": median(mine.ttft_ms / theirs.ttft_ms for mine, theirs in pairs),
    }
    return medians | ratios


async def requests(way: Way, prompts: Sequence[str], count: int) -> float:
    """Return short texts per second, so many at once."""
    left = iter(range(count))

    async def asker() -> None:
        for number in left:
            await way(prompts[number % len(prompts)], SHORT)

    began = perf_counter()
    await asyncio.gather(*(asker() for _ in range(ASKING)))
    return count / (perf_counter() - began)


async def crowd(redis: str, count: int) -> dict[str, Any]:
    """Let so many streams run at once."""
    tokenizer = Tokenizer.load(HASH_TARGET)
    prompts = [f"text {number}" for number in range(count)]
    async with verifier(redis, HASH_TARGET), gateway(redis, "hash:0.8") as (place, process):
        way = over_http(place, HASH_TARGET)
        await way("warm", SHORT)
        before, peak = process.memory_info().rss, 0
        texts = asyncio.gather(*(way(one, CROWD_TOKENS) for one in prompts), return_exceptions=True)
        while not texts.done():
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.1)
        answers = await texts
        again = await asyncio.gather(*(way(one, CROWD_TOKENS) for one in prompts), return_exceptions=True)
        after = process.memory_info().rss
    wrong = sum(
        isinstance(one, BaseException) or one.text != tokenizer.decode(decode(tokenizer.encode(prompt), CROWD_TOKENS))
        for one, prompt in zip([*answers, *again], [*prompts, *prompts], strict=True)
    )
    memory = {"before_mib": before / MIB, "peak_mib": peak / MIB, "after_second_mib": after / MIB}
    return {"streams": count, "wrong_or_failed": wrong, **memory}


async def measure(*, quick: bool) -> dict[str, Any]:
    """Run all parts."""
    prompts = builtin_prompts()[: 8 if quick else 16]
    repeats = 1 if quick else 3
    async with AsyncExitStack() as stack:
        redis = (await stack.enter_async_context(EmbeddedRedis(port=0))).url
        result: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "tokens": TOKENS}
        async with verifier(redis, TARGET), gateway(redis, DRAFT) as (place, _), dsdq.connect(redis) as client:
            ways = {"client": by_client(client), "http": over_http(place, TARGET)}
            for way in ways.values():
                await way(prompts[0], SHORT)
            result["one"] = await streams(ways, prompts, repeats, 1)
            result["together"] = await streams(ways, prompts, repeats, TOGETHER)
            for name, way in ways.items():
                result[f"{name}_requests_per_s"] = await requests(way, prompts, 64 if quick else 256)
        result["crowd"] = await crowd(redis, 100 if quick else CROWD)
    return result | {"tpot_overhead": result["one"]["tpot_overhead"]}


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{'':10} {'TTFT ms':>18} {'TPOT ms':>18} {'TTFT':>7} {'TPOT':>7}")
    print(f"{'':10} {'client':>9}{'http':>9} {'client':>9}{'http':>9} {'ratio':>7} {'ratio':>7}")
    for name in ("one", "together"):
        row = result[name]
        print(
            f"{name:10} {row['client_ttft_ms']:9.2f}{row['http_ttft_ms']:9.2f} {row['client_tpot_ms']:9.3f}"
            f"{row['http_tpot_ms']:9.3f} {row['ttft_overhead']:7.3f} {row['tpot_overhead']:7.3f}"
        )
    print(f"requests/s: client {result['client_requests_per_s']:.1f}, http {result['http_requests_per_s']:.1f}")
    print("crowd: " + ", ".join(f"{name} {value:.4g}" for name, value in result["crowd"].items()))


if __name__ == "__main__":
    arguments = options(__doc__, quick="a tenth of it").parse_args()
    measured = asyncio.run(measure(quick=arguments.quick))
    show(measured)
    write(measured, arguments.json)
