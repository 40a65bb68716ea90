"""``dsdq device`` as a process: text after text, through outages of everybody else, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dsdq.errors import (
    BusyError,
    ConfigError,
    DeniedError,
    DsdqError,
    NoVerifierError,
    QuotaError,
    RedisUnavailableError,
    RefusedError,
    SessionError,
)
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.policies.retry import Backoff
from dsdq.processes import Child, spawn
from dsdq.testing.hashed import decode
from dsdq.testing.killer import Killer
from dsdq.testing.servers import RealServer
from dsdq.wire import ErrorCode
from producers.device.edge import _wait_ms
from tests.conftest import Serve

TOKENS, LATEST_S, SILENT_S = 12, 120, 1.0
DSDQ, TARGET = (sys.executable, "-m", "dsdq"), ("--target", HASH_TARGET)


@asynccontextmanager
async def device_at(url: str, *arguments: str, tokens: int = TOKENS) -> AsyncIterator[Child]:
    command = [*DSDQ, "device", "--redis", url, "--draft", "hash:0.8", "--max-tokens", str(tokens), *arguments]
    patience = ["DSDQ_FIND_VERIFIER_MS=200", "DSDQ_GIVE_UP_MS=2000", "DSDQ_ALLOW_UNSAFE_REDIS=1"]
    # What it says of failures goes to the same pipe: a test reads on past it, or waits for it.
    child = await spawn(["sh", "-c", 'exec "$@" 2>&1', "sh", "env", *patience, *command], stdout=True)
    try:
        async with asyncio.timeout(LATEST_S):
            yield child
    finally:
        await child.stop()


async def until_text(child: Child) -> int:
    """Return the number of the next text."""
    while not (line := await child.read_line()).startswith("text "):
        assert line.startswith(("again in ", "{")), line  # why it waits, or a log event
    return int(line.split()[1].rstrip(":"))


async def until_silent(child: Child) -> None:
    """Read what it said before it had nobody to speak with."""
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(SILENT_S):
                await until_text(child)


async def test_it_says_what_each_text_was_and_ends_after_as_many_as_were_asked_for(
    serve: Serve, redis_url: str, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\ntwo\n")
    tokenizer = Tokenizer.load(HASH_TARGET)
    async with serve(HASH_TARGET), device_at(redis_url, "--texts", "3", "--prompts", str(prompts)) as child:
        lines = [(await child.read_line()).rstrip("\n") for _ in range(4)]
        assert await child.wait() == 0
    for number, (line, prompt) in enumerate(zip(lines, ("one", "two", "one"), strict=False), 1):
        text = prompt + tokenizer.decode(decode(tokenizer.encode(prompt), TOKENS))
        # What the texts before have shown may be that drafts are of no use here.
        figures = rf"text {number}: {TOKENS} tokens, [\d.]+ tok/s, (\d+% accepted|nothing drafted): "
        said = re.match(figures, line)
        assert said, line
        shown = line[said.end() :]
        assert shown.removesuffix("…") == " ".join(text.split())[: 48 if len(shown) < 48 else 47]
    assert lines[3] == f"ended: 3 texts, {3 * TOKENS} tokens"


async def test_it_outlives_a_server_and_verifiers_that_go_away(tmp_path: Path) -> None:
    async with RealServer(tmp_path) as server, Killer([*DSDQ, "verifier", "--redis", server.url, *TARGET]) as killer:
        verifier = await killer.start()
        assert await verifier.until_ready()
        async with device_at(server.url) as child:
            await until_text(child)
            await server.kill()
            await until_silent(child)
            await server.start()
            await until_text(child)
            verifier.kill()
            await verifier.wait()
            await until_silent(child)
            heir = await killer.start()
            assert await heir.until_ready()
            await until_text(child)
            child.send_signal(signal.SIGTERM)
            while not (line := await child.read_line()).startswith("ended: "):
                assert line.startswith(("text ", "{")), line
            assert await child.wait() == 0


async def test_it_begins_before_anybody_serves(serve: Serve, redis_url: str) -> None:
    async with device_at(redis_url, "--texts", "1") as child:
        assert "expected a verifier" in await child.read_line()
        async with serve(HASH_TARGET):
            assert await until_text(child) == 1


async def test_told_to_stop_it_frees_its_session_at_once(serve: Serve, redis_url: str) -> None:
    async with serve(HASH_TARGET, hash_step_ms=20) as verifier, device_at(redis_url, tokens=2000) as child:
        while not verifier._sessions:
            await asyncio.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        assert await child.read_line() == "ended: 0 texts, 0 tokens\n"
        assert await child.wait() == 0
        while verifier._sessions:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "error",
    [
        NoVerifierError("none"),
        RedisUnavailableError("away"),
        BusyError("full", 300),
        SessionError(ErrorCode.NO_ANSWER, "silent"),
        QuotaError("later", limit="sessions", left=0, retry_after_ms=300),
    ],
)
def test_what_passes_is_waited_for(error: DsdqError) -> None:
    pauses = Backoff(random.Random(0), 500, 10_000)
    assert _wait_ms(error, pauses) >= getattr(error, "retry_after_ms", 0)
    assert pauses.tries == 1


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("wrong"),
        DeniedError("no"),
        RefusedError(ErrorCode.TERMS_INVALID, "no"),
        SessionError(ErrorCode.TENANT_DISABLED, "no"),
        QuotaError("never", limit="sessions", left=0, retry_after_ms=-1),
    ],
)
def test_what_does_not_pass_ends_it(error: DsdqError) -> None:
    with pytest.raises(type(error)):
        _wait_ms(error, Backoff(random.Random(0), 500, 10_000))
