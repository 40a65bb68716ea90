"""A Redis whose users may have selectors, with a file to keep them in; a disk that is full; no extra installed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsdq import extras
from dsdq.bus.embedded import EmbeddedRedis
from tests.conftest import TICKS_OFTEN, newest_server

FULL = Path("/dev/full")


@pytest.fixture
def full() -> Path:
    """Give a file on a disk that is full; skip where there is none, so that nothing is written to what is there."""
    if not FULL.is_char_device():
        pytest.skip(f"{FULL} is no device here")
    return FULL


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be found of what extras bring."""
    monkeypatch.setattr(extras, "find_spec", lambda _: None)


@pytest.fixture(scope="session")
def newest_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Redis 7 or newer on loopback and give its URL; skip where there is none."""
    users = tmp_path_factory.mktemp("redis") / "users.acl"
    users.touch()
    options = ["--aclfile", str(users), "--enable-debug-command", "yes", *TICKS_OFTEN]
    with asyncio.Runner() as runner:
        server = EmbeddedRedis(port=0, program=newest_server(), arguments=options)
        runner.run(server.start())
        yield server.url
        runner.run(server.stop())
