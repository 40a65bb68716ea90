"""Connect to Redis in every shape it is run in, with every timeout stated, and speak in the project's errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

from dsdq.bus.address import CLUSTER, SENTINEL, Address, parse_address, shown
from dsdq.bus.clients import (
    BoundedRetry,
    Client,
    ClusterClient,
    Pool,
    SentinelPool,
    SentinelTcp,
    SentinelTls,
    Tcp,
    Tls,
    Unix,
)
from dsdq.bus.faults import PASSING, fault_of
from dsdq.bus.rights import Role, denied, needed
from dsdq.errors import ConfigError, DeniedError, RedisUnavailableError
from dsdq.telemetry.logs import get_logger

log = get_logger("redis")

CONNECT_TIMEOUT_S = 5.0
SENTINEL_TIMEOUT_S = 1.0  # the next Sentinel knows as much
REPLY_TIMEOUT_S = 5.0  # longer than any BLOCK; whoever waits for an answer that got lost waits as long
BLOCK_MS = 2_000
HEALTH_CHECK_S = 30
OLDEST = (6, 2)


def open_redis(url: str) -> Redis:
    """Return a client for ``url`` (:mod:`dsdq.bus.address`); it connects at its first command.

    The client of a cluster has the same commands; those of one call must touch one slot.

    Raises:
        ConfigError: the URL is not one of Redis.
    """
    address = parse_address(url)
    options = {
        "socket_timeout": REPLY_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": HEALTH_CHECK_S,
        "retry": BoundedRetry(),
        **address.options,
    }
    try:
        if address.kind == CLUSTER:
            return ClusterClient(address.hosts, ssl=address.tls, **options)
        return _at_sentinels(address, options) if address.kind == SENTINEL else _at_server(address, options)
    except (TypeError, ValueError, exceptions.RedisError, exceptions.RedisClusterException) as error:
        msg = f"expected a Redis URL with options that redis-py knows, got {shown(url)!r}: {error}"
        raise ConfigError(msg) from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error of the Redis client inside the block into one of :class:`dsdq.errors.BusError`'s kinds."""
    try:
        yield
    except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
        raise fault_of(error) from error


async def check_server(redis: Redis, *, role: Role = Role.WORKER, allow_unsafe: bool = False) -> None:
    """Return when every primary keeps what it accepted and allows this user what ``role`` asks.

    A device may be a user that is not told how the server is set up; then that is its verifiers' care.

    Raises:
        DeniedError: a server is older than 6.2, or it evicts keys or has no append-only file (both accepted with
            ``allow_unsafe``), or the user lacks a right.
        RedisUnavailableError: none answers, or the one that does is loading its data, or a replica.
    """
    with translated():
        async with primaries(redis) as servers:
            for server in servers:
                await _check_primary(server, role, allow_unsafe=allow_unsafe)


async def keeper_of(redis: Redis, key: str) -> dict[str, Any]:
    """Return the options that send a command without keys, such as TIME, to the server that holds ``key``.

    The nodes of a cluster have a clock each.
    """
    if not isinstance(redis, ClusterClient):
        return {}
    with translated():
        await redis.initialize()
        return {"target_nodes": redis.get_node_from_key(key)}


async def server_version(redis: Redis) -> tuple[int, ...]:
    """Return major and minor version of the server, the oldest one's of a cluster."""
    with translated():
        async with primaries(redis) as servers:
            found = [(await server.info("server"))["redis_version"] for server in servers]
    return min(tuple(int(part) for part in version.split(".")[:2]) for version in found)


async def _check_primary(server: Redis, role: Role, *, allow_unsafe: bool) -> None:
    try:
        info: dict[str, Any] = await server.info()
    except exceptions.NoPermissionError:
        if role is not Role.DEVICE:
            raise
    else:
        _check_info(info, allow_unsafe=allow_unsafe)
    refused = await denied(server, needed(role))
    if refused:
        names = ", ".join(" ".join(command[:3]) for command in refused)
        allowed = "`dsdq acl setup` of this release allows it"
        msg = f"redis: expected a user that may do what a {role} does, its ACL refuses: {names}; {allowed}"
        raise DeniedError(msg)


def _check_info(info: dict[str, Any], *, allow_unsafe: bool) -> None:
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        msg = f"redis: expected version {'.'.join(map(str, OLDEST))} or newer, got {version}; upgrade the server"
        raise DeniedError(msg)
    for state, code in ((info.get("loading"), "LOADING"), (info.get("role") == "slave", "READONLY")):
        if state:
            msg = f"redis: {PASSING[code]}"
            raise RedisUnavailableError(msg)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not allow_unsafe:
        msg = f"redis: expected maxmemory-policy noeviction (others drop accepted work), got {policy}"
        raise DeniedError(msg)
    if not info.get("aof_enabled", 1) and not allow_unsafe:
        msg = (
            "redis: expected appendonly yes (without it a restart loses accepted work), got no; set it, or set "
            "DSDQ_ALLOW_UNSAFE_REDIS=1 for development"
        )
        raise DeniedError(msg)
    # Without maxmemory nothing is refused until the machine has no memory left, and then the server is killed.
    log.info("server", version=version, maxmemory_bytes=info.get("maxmemory"), policy=policy)


@asynccontextmanager
async def primaries(redis: Redis) -> AsyncIterator[list[Redis]]:
    """Give a client of each primary of a cluster, or of the one server that there is."""
    if not isinstance(redis, ClusterClient):
        yield [redis]
        return
    await redis.initialize()
    servers = redis.primaries()
    try:
        yield servers
    finally:
        for server in servers:
            await server.aclose()


def _at_server(address: Address, options: dict[str, Any]) -> Redis:
    kind = Unix if "path" in options else Tls if address.tls else Tcp
    pool = Pool(connection_class=kind, retry_on_error=[exceptions.ConnectionError], **options)
    pool.make_connection()  # raises for an option that does not exist, instead of the first command
    return Client.from_pool(pool)


def _at_sentinels(address: Address, options: dict[str, Any]) -> Redis:
    timeouts = {"socket_timeout": SENTINEL_TIMEOUT_S, "socket_connect_timeout": SENTINEL_TIMEOUT_S}
    sentinels = Sentinel(address.hosts, sentinel_kwargs={"ssl": address.tls, **timeouts, **address.sentinel_options})
    pool = SentinelPool(
        address.service,
        sentinels,
        connection_class=SentinelTls if address.tls else SentinelTcp,
        retry_on_error=[exceptions.ConnectionError],
        **options,
    )
    pool.make_connection()
    return Client.from_pool(pool)
