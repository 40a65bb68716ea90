"""The ways to ask and be answered that ``bench/roundtrip.py`` compares; each side of each is a process of its own.

    python -m bench.exchanges serve WAY URL
    python -m bench.exchanges ask WAY URL SESSIONS SECONDS

A server prints ``ready`` and serves until it is ended; the asking side prints its figures as one line of JSON. All
carry the same bytes. What is hand-written here is as small as the exchange allows: no limits, no fences, no repeats.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import redis as blocking
from redis.asyncio import Redis

import dsdq
from dsdq.tasks import end
from dsdq.wire import Draft, Verdict, pack

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

WINDOW = 8
SESSION = "01arz3ndektsv4rrffq69g5fav"
TOKENS = tuple(range(1000, 1000 + WINDOW))
DRAFT = pack(Draft(SESSION, 3, 40, 300, b"d" * 16, TOKENS))
VERDICT = pack(Verdict(SESSION, 40, 40, 3, 300, 8, 4, TOKENS[:5], 305, b"d" * 16, 9, 150, 400, 16, WINDOW))
INBOX, FEED, GROUP = "{raw}:in", "{raw}:feed", "g"
REQUESTS, REPLIES = "{list}:in", "{list}:out"
READ, KEPT, BLOCK_MS, BLOCK_S = 256, 10_000, 2_000, 2
POLL_S = 0.01  # arq asks whether there is something; its default of 0.5 s would be all that is measured
DRAFTER = "hash:0.8"
MAX_TOKENS = 512

Ask = Callable[[int], Awaitable[float]]
"""One round of a session, by its number: returns the seconds from sending the draft to having the verdict."""


# Two streams, by hand: an inbox with a group, and one feed for all sessions


async def serve_raw(url: str) -> None:
    """Read what waits, answer all of it in one round trip."""
    redis = Redis.from_url(url)
    await redis.xgroup_create(INBOX, GROUP, id="0", mkstream=True)
    print("ready", flush=True)
    while True:
        answer = await redis.xreadgroup(GROUP, "c", {INBOX: ">"}, count=READ, block=BLOCK_MS)
        for _, entries in answer:
            await _answer(redis.pipeline(transaction=False), entries).execute()


def serve_raw_blocking(url: str) -> None:
    """Do the same without an event loop."""
    redis = blocking.Redis.from_url(url)
    redis.xgroup_create(INBOX, GROUP, id="0", mkstream=True)
    print("ready", flush=True)
    while True:
        answer: Any = redis.xreadgroup(GROUP, "c", {INBOX: ">"}, count=READ, block=BLOCK_MS)
        for _, entries in answer:
            _answer(redis.pipeline(transaction=False), entries).execute()


def _answer(pipeline: Any, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Any:  # noqa: ANN401 - either client's
    for _, fields in entries:
        pipeline.xadd(FEED, {"s": fields[b"s"], "m": VERDICT}, maxlen=KEPT, approximate=True)
    ids = [entry_id for entry_id, _ in entries]
    pipeline.xack(INBOX, GROUP, *ids)
    pipeline.xdel(INBOX, *ids)
    return pipeline


@asynccontextmanager
async def raw(url: str, sessions: int) -> AsyncIterator[Ask]:
    """Ask through the inbox; one task reads the feed for all sessions."""
    redis = Redis.from_url(url)
    waiting: list[asyncio.Future[None]] = [asyncio.Future() for _ in range(sessions)]

    async def read() -> None:
        last = "$"
        while True:
            for _, entries in await redis.xread({FEED: last}, count=READ, block=BLOCK_MS):
                last = entries[-1][0]
                for _, fields in entries:
                    waiting[int(fields[b"s"])].set_result(None)

    async def ask(number: int) -> float:
        began = perf_counter()
        waiting[number] = asyncio.get_running_loop().create_future()
        await redis.xadd(INBOX, {"s": number, "m": DRAFT})
        await waiting[number]
        return perf_counter() - began

    async with _reading(read()):
        yield ask
    await redis.aclose()


def ask_raw_blocking(url: str, sessions: int, duration_s: float) -> dict[str, float]:
    """Ask for all sessions from one loop: whoever is answered asks again at once."""
    redis = blocking.Redis.from_url(url)
    last: Any = (redis.xrevrange(FEED, count=1) or [(b"0-0", {})])[0][0]
    seconds: list[float] = []
    pipeline = redis.pipeline(transaction=False)
    began = [perf_counter()] * sessions
    for number in range(sessions):
        pipeline.xadd(INBOX, {"s": number, "m": DRAFT})
    pipeline.execute()
    started = perf_counter()
    while perf_counter() - started < duration_s:
        answer: Any = redis.xread({FEED: last}, count=READ, block=BLOCK_MS)
        now = perf_counter()
        ((_, entries),) = answer
        last = entries[-1][0]
        for _, fields in entries:
            number = int(fields[b"s"])
            seconds.append(now - began[number])
            began[number] = now
            pipeline.xadd(INBOX, {"s": number, "m": DRAFT})
        pipeline.execute()
    return _figures(seconds, perf_counter() - started)


# Two lists


async def serve_list(url: str) -> None:
    """Pop one request, push one reply."""
    redis = Redis.from_url(url)
    print("ready", flush=True)
    while True:
        popped = await redis.brpop([REQUESTS], timeout=BLOCK_S)
        if popped is not None:
            number, _, _ = popped[1].partition(b" ")
            await redis.lpush(REPLIES, number + b" " + VERDICT)


@asynccontextmanager
async def lists(url: str, sessions: int) -> AsyncIterator[Ask]:
    """Push a request; one task pops the replies of all sessions."""
    redis = Redis.from_url(url)
    waiting: list[asyncio.Future[None]] = [asyncio.Future() for _ in range(sessions)]

    async def read() -> None:
        while True:
            popped = await redis.brpop([REPLIES], timeout=BLOCK_S)
            if popped is not None:
                waiting[int(popped[1].partition(b" ")[0])].set_result(None)

    async def ask(number: int) -> float:
        began = perf_counter()
        waiting[number] = asyncio.get_running_loop().create_future()
        await redis.lpush(REQUESTS, b"%d " % number + DRAFT)
        await waiting[number]
        return perf_counter() - began

    async with _reading(read()):
        yield ask
    await redis.aclose()


# arq: a job for each round


async def verify(_: dict[Any, Any], draft: bytes) -> bytes:
    """Be the job."""
    del draft
    return VERDICT


async def serve_arq(url: str) -> None:
    """Run jobs as fast as arq lets; it asks Redis every ``POLL_S``."""
    from arq.connections import RedisSettings  # noqa: PLC0415 - an extra
    from arq.worker import Worker  # noqa: PLC0415

    worker = Worker(
        [cast("WorkerCoroutine", verify)],
        redis_settings=RedisSettings.from_dsn(url),
        poll_delay=POLL_S,
        max_jobs=READ,
        keep_result=10,
        handle_signals=False,
        job_completion_wait=0,
    )
    print("ready", flush=True)
    await worker.async_run()


@asynccontextmanager
async def arq(url: str, sessions: int) -> AsyncIterator[Ask]:
    """Enqueue a job and await its result."""
    from arq.connections import RedisSettings, create_pool  # noqa: PLC0415 - an extra

    pool = await create_pool(RedisSettings.from_dsn(url))
    del sessions

    async def ask(number: int) -> float:
        del number
        began = perf_counter()
        job = await pool.enqueue_job("verify", DRAFT)
        if job is not None:
            await job.result(poll_delay=POLL_S)
        return perf_counter() - began

    yield ask
    await pool.aclose()


# dsdq


@asynccontextmanager
async def through_dsdq(url: str, sessions: int) -> AsyncIterator[Ask]:
    """Generate with a drafter that is right four times out of five; a round is what its figures say of it."""
    async with dsdq.connect(url) as client:

        def begin(number: int) -> dsdq.Generation:
            return client.generate(
                [1 + number, 2, 3], draft=DRAFTER, window=WINDOW, max_tokens=MAX_TOKENS, ignore_eos=True, seed=number
            )

        running = [begin(number) for number in range(sessions)]

        async def ask(number: int) -> float:
            stats = running[number].stats
            before = len(stats.round_trips_ms)
            async for _ in running[number]:
                if len(stats.round_trips_ms) > before:
                    return stats.round_trips_ms[-1] / 1000
            running[number] = begin(number)
            return await ask(number)

        yield ask


# Measuring


async def measure(ask: Ask, sessions: int, duration_s: float) -> dict[str, float]:
    """Let all sessions ask at once, each again as soon as it is answered, for ``duration_s``."""
    seconds: list[float] = []

    over = asyncio.Event()

    async def session(number: int) -> None:
        while not over.is_set():
            seconds.append(await ask(number))

    await asyncio.gather(*map(ask, range(sessions)))  # what happens once is not measured
    started = perf_counter()
    asking = [asyncio.create_task(session(number)) for number in range(sessions)]
    await asyncio.wait(asking, timeout=duration_s, return_when=asyncio.FIRST_EXCEPTION)
    figures = _figures(list(seconds), perf_counter() - started)
    over.set()
    await asyncio.gather(*asking)  # each ends its round
    return figures


def _figures(seconds: list[float], duration_s: float) -> dict[str, float]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": 1000 * cuts[49], "p99_ms": 1000 * cuts[98], "rounds_per_s": len(seconds) / duration_s}


@asynccontextmanager
async def _reading(loop: Any) -> AsyncIterator[None]:  # noqa: ANN401 - a coroutine
    task = asyncio.create_task(loop)
    try:
        yield
    finally:
        await end(task)


SERVERS: dict[str, Callable[[str], Any]] = {"raw": serve_raw, "list": serve_list, "arq": serve_arq}
WAYS = {"raw": raw, "list": lists, "arq": arq, "dsdq": through_dsdq}


async def ask_way(way: str, url: str, sessions: int, duration_s: float) -> dict[str, float]:
    """Run the asking side of one way."""
    async with WAYS[way](url, sessions) as ask:
        return await measure(ask, sessions, duration_s)


def main() -> None:
    """Be one side of one way."""
    role, way, url, *numbers = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if role == "serve" and way == "raw_blocking":
        serve_raw_blocking(url)
    elif role == "serve":
        asyncio.run(SERVERS[way](url))
    else:
        sessions, duration_s = int(numbers[0]), float(numbers[1])
        if way == "raw_blocking":
            figures = ask_raw_blocking(url, sessions, duration_s)
        else:
            figures = asyncio.run(ask_way(way, url, sessions, duration_s))
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
