"""What every test may use: a real Redis, empty for each test; a real browser; tiny models; a whole verifier."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from dsdq.threads import share_cores

# Testers keep all cores busy: a thread that spins a while, as share_cores has it, holds up the one that it waits for.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
share_cores()  # with the processes that tests start, and with other tests that run beside these
# A shell lets its background jobs ignore Ctrl-C, and what they start inherits that: processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

import torch

# Tests do not measure time: others run beside them. Each run tries the same examples, so that a failure tells of a
# change; `--hypothesis-profile explore` tries others.
_UNTIMED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("dsdq", derandomize=True, **_UNTIMED)
hypothesis.settings.register_profile("explore", **_UNTIMED)
hypothesis.settings.load_profile("dsdq")

# Without a GPU, Triton's kernels run in its interpreter; it asks when it is imported, which transformers does.
os.environ["TRITON_INTERPRET"] = "0" if torch.cuda.is_available() else "1"

from redis.asyncio import Redis

from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis, server_version
from dsdq.settings import Settings
from dsdq.testing.tiny import make_tiny
from tests.producers.drafters.exported import exported
from workers.verifier import service
from workers.verifier.assembly import assemble
from workers.verifier.heap import pass_over_what_is_here
from workers.verifier.service import Verifier

if TYPE_CHECKING:
    from playwright.async_api import Browser

NEWEST = (7, 0)
# An idle server notices that a blocked read has waited long enough when its clock ticks: by itself, every 100 ms.
TICKS_OFTEN = ("--hz", "500")
# A verifier on a busy machine is late, not dead; it beats as often as with its usual lease.
LEASE_MS, BEATS_PER_LEASE = 20_000, 80
Export = Callable[[str], str]
Serve = Callable[..., AbstractAsyncContextManager[Verifier]]


def pytest_collection_finish() -> None:
    """Spare the collector what was imported: else it stops a verifier under test for up to a second."""
    pass_over_what_is_here()


def newest_server() -> str:
    """Return the ``redis-server`` on the PATH, or skip the test that asks for it where that is missing or old."""
    found = shutil.which("redis-server")
    if found is None or server_version(found) < NEWEST:
        pytest.skip("no redis-server 7 or newer on the PATH (.ci/run installs one)")
    return found


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """Start one embedded server on loopback for the whole run and give its URL."""
    with asyncio.Runner() as runner:
        server = EmbeddedRedis(port=0, arguments=TICKS_OFTEN)
        runner.run(server.start())
        yield server.url
        runner.run(server.stop())


@pytest.fixture
async def redis(redis_server: str) -> AsyncIterator[Redis]:
    """Give a client of an empty server."""
    client = open_redis(redis_server)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def redis_url(redis_server: str, redis: Redis) -> str:
    """Give the URL of an empty server."""
    del redis
    return redis_server


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Give a headless Chromium, or skip the test that asks for it where there is none."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium on the PATH (.ci/run installs one)")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        await opened.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a tiny random model of an architecture, made once."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = tmp_path_factory.mktemp(architecture)
            make_tiny(made[architecture], architecture)
        return made[architecture]

    return folder


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return a function that gives the built-in draft's name in another form, made once.

    ``onnx`` and ``gguf`` skip the test where what writes or runs them is missing; ``renumbered`` has other ids.
    """
    made: dict[str, str] = {}

    def name(form: str) -> str:
        if form == "onnx":
            pytest.importorskip("onnx", reason="the extra dev has it")
            pytest.importorskip("onnxruntime", reason="the extra onnx has it")
        elif form == "gguf":
            pytest.importorskip("gguf", reason="writes the file: pip install gguf")
            pytest.importorskip("llama_cpp", reason="the extra llama-cpp has it; it may have to be built")
        if form not in made:
            made[form] = exported(form, tmp_path_factory.mktemp(form))
        return made[form]

    return name


@pytest.fixture
def long_lease(monkeypatch: pytest.MonkeyPatch) -> int:
    """Give the lease of verifiers under test in milliseconds."""
    monkeypatch.setattr(service, "BEATS_PER_LEASE", BEATS_PER_LEASE)
    return LEASE_MS


@pytest.fixture
def serve(redis_url: str, long_lease: int) -> Serve:
    """Return a context manager that serves a target, at ``redis_url`` unless told otherwise, for its block."""

    @asynccontextmanager
    async def run(target: str | Path, **changed: object) -> AsyncIterator[Verifier]:
        chosen = Settings(**{"redis_url": redis_url, "lease_ms": long_lease, **changed})  # type: ignore[arg-type]
        stop, ready = asyncio.Event(), asyncio.Event()
        async with assemble(chosen.redis_url, str(target), "cpu", "float32", chosen) as make:
            verifier = make()
            serving = asyncio.create_task(verifier.run(stop, ready))
            announced = asyncio.create_task(ready.wait())
            await asyncio.wait([serving, announced], return_when=asyncio.FIRST_COMPLETED)
            announced.cancel()
            test = asyncio.current_task()
            # A verifier that ends by itself ends the test, instead of leaving its devices waiting.
            serving.add_done_callback(lambda _: test.cancel() if test and not stop.is_set() else None)
            try:
                yield verifier
            finally:
                stop.set()
                await serving

    return run
