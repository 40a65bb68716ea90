"""A Redis whose users may have selectors, with a file to keep them in."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

START_S = 20.0


def newest_program() -> str:
    found = shutil.which("redis-server")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout if found else ""
    version = re.search(r"v=(\d+)", said)
    if found is None or version is None or int(version[1]) < 7:
        pytest.skip("no redis-server 7 or newer on the PATH (.ci/run installs one)")
    return found


@pytest.fixture(scope="session")
def newest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Redis 7 or newer on loopback and give its URL."""
    folder: Path = tmp_path_factory.mktemp("redis")
    users = folder / "users.acl"
    users.touch()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    others = ["--aclfile", str(users), "--logfile", "redis.log", "--enable-debug-command", "yes"]
    process = subprocess.Popen([newest_program(), *place, *others])
    try:
        with redis.Redis(port=port) as client:
            deadline = time.monotonic() + START_S
            while not _answers(client):
                assert process.poll() is None, (folder / "redis.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False
