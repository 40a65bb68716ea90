"""Connect to Redis with every timeout stated, refuse a server that would lose data, speak in the project's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from dsdq.errors import ConfigError, RedisUnavailableError

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 10.0  # longer than any BLOCK
BLOCK_MS = 2_000
HEALTH_CHECK_S = 30
RETRIES = 3
OLDEST = (6, 2)
SCHEMES = ("redis://", "rediss://", "unix://")


def open_redis(url: str) -> Redis:
    """Return a client for ``url``; it connects at its first command.

    Raises:
        ConfigError: the URL is not one of Redis.
    """
    if not url.startswith(SCHEMES):
        msg = f"expected a Redis URL that starts with {', '.join(SCHEMES)}, got {url!r}"
        raise ConfigError(msg)
    try:
        return Redis.from_url(
            url,
            socket_timeout=REPLY_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            health_check_interval=HEALTH_CHECK_S,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), RETRIES),
            retry_on_error=[exceptions.ConnectionError],
        )
    except ValueError as error:
        msg = f"expected a Redis URL such as redis://127.0.0.1:6379/0, got {url!r}: {error}"
        raise ConfigError(msg) from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error of the Redis client inside the block into :class:`RedisUnavailableError`."""
    try:
        yield
    except exceptions.RedisError as error:
        msg = f"redis: expected an answer, got {type(error).__name__}: {error}"
        raise RedisUnavailableError(msg) from error


async def check_server(redis: Redis, *, allow_unsafe: bool = False) -> None:
    """Return when the server is one that keeps what it accepted.

    Raises:
        RedisUnavailableError: none answers, it is older than 6.2, evicts keys, or (unless ``allow_unsafe``) has no
            append-only file.
    """
    with translated():
        info: dict[str, Any] = await redis.info()
        config: dict[str, str] = await redis.config_get("maxmemory-policy")
        config |= await redis.config_get("appendonly")
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        msg = f"redis: expected version {'.'.join(map(str, OLDEST))} or newer, got {version}; upgrade the server"
        raise RedisUnavailableError(msg)
    policy = config.get("maxmemory-policy", "noeviction")
    if policy != "noeviction" and not allow_unsafe:
        msg = f"redis: expected maxmemory-policy noeviction (others drop accepted work), got {policy}"
        raise RedisUnavailableError(msg)
    if config.get("appendonly", "yes") != "yes" and not allow_unsafe:
        msg = (
            "redis: expected appendonly yes (without it a restart loses accepted work), got no; set it, or set "
            "DSDQ_ALLOW_UNSAFE_REDIS=1 for development"
        )
        raise RedisUnavailableError(msg)
