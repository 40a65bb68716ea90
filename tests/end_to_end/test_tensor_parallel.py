"""``torchrun -m dsdq verifier``: several processes serve one target as one verifier, and all of them end together."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from dsdq import keys
from tests.end_to_end.test_greedy import check_greedy, prompts_for

STARTS_S = 120
ENDS_S = 60
RANKS = 2


@asynccontextmanager
async def torchrun(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launcher = ["--nnodes", "1", "--nproc-per-node", str(RANKS), "--master-addr", "127.0.0.1", "--master-port", port]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "torch.distributed.run", *launcher, "-m", "dsdq", *arguments),
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            for one in (*psutil.Process(process.pid).children(recursive=True), process):
                one.kill()
            await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_two_ranks_serve_the_targets_own_text_and_end_together(
    redis: Redis, redis_url: str, tiny: Callable[[str], Path], number: signal.Signals
) -> None:
    folder = str(tiny("llama"))
    async with torchrun("verifier", "--redis", redis_url, "--target", folder) as process:
        assert process.stdout is not None
        async with asyncio.timeout(STARTS_S):
            ready = await process.stdout.readuntil(b"\n")
        assert ready.startswith(b"ready: ")
        ranks = psutil.Process(process.pid).children()
        assert len(ranks) == RANKS
        await check_greedy(redis_url, folder, prompts_for(folder)[:4], draft="ngram", window=5)
        process.send_signal(number)
        async with asyncio.timeout(ENDS_S):
            said, errors = await process.communicate()
        assert said == b""
        assert b"dsdq:" not in errors  # neither rank ended for want of the other
    assert not any(rank.is_running() for rank in ranks)
    assert await redis.zcard(keys.workers(folder)) == 0


async def test_a_target_that_cannot_be_shared_ends_every_rank_with_a_sentence(
    redis_url: str, tiny: Callable[[str], Path]
) -> None:
    async with torchrun("verifier", "--redis", redis_url, "--target", str(tiny("gemma"))) as process:
        async with asyncio.timeout(STARTS_S):
            _, errors = await process.communicate()
        assert process.returncode != 0
    assert b"which 2 ranks cannot share evenly" in errors
