"""Real servers for tests, on loopback: one that can be hurt, a cluster, and a primary that Sentinels watch."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dsdq.bus.connection import open_redis
from dsdq.bus.embedded import LOOPBACK, EmbeddedRedis, find_server, free_port, is_free
from dsdq.errors import RedisUnavailableError
from dsdq.processes import spawn

READY_S = 60.0
POLL_S = 0.05
NODES = 3
SERVICE = "main"
_SLOTS = 16_384
_BUS = 10_000  # a node speaks with the others at its port plus this
_DOWN_AFTER_MS = 500


class RealServer(EmbeddedRedis):
    """A server on a port of its own and in a folder that stays, which can be killed, stopped and started again."""

    def __init__(
        self, folder: Path, *, port: int = 0, program: str | None = None, arguments: Sequence[str] = ()
    ) -> None:
        super().__init__(port or free_port(), program=program, folder=folder, arguments=arguments)
        self.pid = 0

    async def start(self) -> None:
        """Start the server on what its folder holds, and wait until it answers."""
        await super().start()
        async with client(self.url) as redis:
            self.pid = (await redis.info("server"))["process_id"]

    async def restart(self) -> None:
        """End the server in order and start it again."""
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """Kill the server as a crash would, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        await self.wait()
        await self.stop()

    def pause(self) -> None:
        """Let the server stand still: its connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a server that stood still go on."""
        os.kill(self.pid, signal.SIGCONT)


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Redis]:
    """Yield a client that is closed with the block."""
    redis = open_redis(url)
    try:
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def real_cluster(folder: Path, *, program: str | None = None) -> AsyncIterator[tuple[str, list[RealServer]]]:
    """Yield the URL of a cluster of three primaries, and its servers."""
    arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(NODES):
            place = folder / f"node-{number}"
            place.mkdir(parents=True)
            node = RealServer(place, port=cluster_port(), program=program, arguments=arguments)
            nodes.append(await stack.enter_async_context(node))
        clients = [await stack.enter_async_context(client(node.url)) for node in nodes]
        bounds = [_SLOTS * number // NODES for number in range(NODES + 1)]
        for number, redis in enumerate(clients):
            await redis.execute_command("CLUSTER ADDSLOTS", *range(bounds[number], bounds[number + 1]))
            # Of two nodes with one epoch that name different owners of a slot that has moved, neither is believed.
            await redis.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            await clients[0].execute_command("CLUSTER MEET", LOOPBACK, _port(node))
        for redis in clients:
            await until(lambda redis=redis: _is_whole(redis), "a cluster that is whole")  # type: ignore[misc]
        yield f"redis+cluster://{','.join(f'{LOOPBACK}:{_port(node)}' for node in nodes)}", nodes


@dataclass(frozen=True, slots=True)
class Tls:
    """How servers are told of their certificates, for 127.0.0.1, and how a URL is told whom to trust."""

    arguments: Sequence[str]
    query: str


class RealSentinels:
    """A primary, a replica of it, and the Sentinels that replace the one by the other.

    ``servers`` has both by the port that is watched.
    """

    def __init__(self, url: str, servers: Mapping[int, RealServer]) -> None:
        self.url = url
        self._servers = servers

    async def primary(self) -> RealServer:
        """Return the server that the Sentinels name now."""
        async with client(self.url) as redis:
            _, port = await redis.connection_pool.get_master_address()
        return self._servers[port]

    async def replicated(self) -> None:
        """Wait until a replica is in step, so that Sentinels may promote it."""
        async with client(self.url) as redis:

            async def _in_step() -> bool:
                replica = (await redis.info("replication")).get("slave0", {})
                return bool(replica.get("state") == "online")

            await until(_in_step, "a replica in step")


@asynccontextmanager
async def real_sentinels(
    folder: Path, *, sentinels: int = 1, program: str | None = None, tls: Tls | None = None
) -> AsyncIterator[RealSentinels]:
    """Yield a primary with one replica under ``sentinels`` Sentinels, of which most must agree on a failover.

    With ``tls`` all of them speak with one another, and with clients, over TLS.
    """
    async with AsyncExitStack() as stack:
        servers: dict[int, RealServer] = {}
        for number in range(2):
            place = folder / f"server-{number}"
            place.mkdir(parents=True)
            port, secure = free_port(), free_port()
            watched = secure if tls else port
            follows = ["--replicaof", LOOPBACK, str(next(iter(servers)))] if servers else []
            arguments = ["--repl-diskless-sync-delay", "0", *_over_tls(tls, secure), *follows]
            servers[watched] = RealServer(place, port=port, program=program, arguments=arguments)
            await stack.enter_async_context(servers[watched])
        ports = [(free_port(), free_port()) for _ in range(sentinels)]
        for port, secure in ports:
            place = _sentinel(folder, port, next(iter(servers)), sentinels // 2 + 1)
            guard = await spawn([program or find_server(), place, "--sentinel", *_over_tls(tls, secure)])
            stack.push_async_callback(guard.stop)
        hosts = ",".join(f"{LOOPBACK}:{secure if tls else port}" for port, secure in ports)
        for port, _ in ports:
            await until(lambda port=port: _sees(port, sentinels - 1), "Sentinels that know each other")  # type: ignore[misc]
        scheme, query = ("rediss", f"?{tls.query}") if tls else ("redis", "")
        yield RealSentinels(f"{scheme}+sentinel://{hosts}/{SERVICE}{query}", servers)


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask again until something holds.

    Raises:
        RedisUnavailableError: it did not, for a minute.
    """
    try:
        async with asyncio.timeout(READY_S):
            while not await holds():  # noqa: ASYNC110 - a server gives no event to wait for
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        msg = f"expected {what} within {READY_S:.0f} s"
        raise RedisUnavailableError(msg) from error


def _over_tls(tls: Tls | None, port: int) -> list[str]:
    """Return what lets a server listen at one more port, for TLS, and look for all others over TLS."""
    if tls is None:
        return []
    return [*tls.arguments, "--tls-port", str(port), "--tls-replication", "yes", "--tls-auth-clients", "no"]


def _sentinel(folder: Path, port: int, primary: int, quorum: int) -> Path:
    lines = [
        f"port {port}",
        f"bind {LOOPBACK}",
        f"dir {folder}",
        f"logfile sentinel-{port}.log",
        f"sentinel monitor {SERVICE} {LOOPBACK} {primary} {quorum}",
        f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}",
        f"sentinel failover-timeout {SERVICE} 3000",
    ]
    place = folder / f"sentinel-{port}.conf"
    place.write_text("\n".join(lines) + "\n")
    return place


async def _sees(port: int, others: int) -> bool:
    """Say whether a Sentinel knows the replica and that many others."""
    async with client(f"redis://{LOOPBACK}:{port}") as redis:
        try:
            state: dict[str, Any] = (await redis.sentinel_masters())[SERVICE]
        except RedisError:  # it is still starting
            return False
    return bool(state["num-other-sentinels"] >= others and state["num-slaves"] >= 1)


async def _is_whole(redis: Redis) -> bool:
    info: dict[str, Any] = await redis.execute_command("CLUSTER INFO")
    return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", str(NODES))


def _port(server: EmbeddedRedis) -> int:
    return int(server.url.rsplit(":", 1)[1].split("/")[0])


def cluster_port() -> int:
    """Return a port that is free, as is the one at which a node speaks with the others."""
    while not is_free((port := free_port()) + _BUS):
        pass
    return port
