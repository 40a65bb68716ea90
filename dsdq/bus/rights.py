"""What each side asks of Redis, and whether a user may ask it: tried in a transaction that is thrown away."""

from __future__ import annotations

from enum import StrEnum

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from dsdq import keys

Command = tuple[str, ...]
_NAME = "probe"


class Role(StrEnum):
    """Who asks: a verifier, which writes everything, a device, which may be allowed little, or who does batches."""

    WORKER = "worker"
    DEVICE = "device"
    GATEWAY = "gateway"


def needed(role: Role) -> list[Command]:
    """Return one command of each kind that a role sends, on keys of the kind that it touches."""
    # What else a device may touch depends on its tenant, and is tried by using it.
    if role is Role.DEVICE:
        return _of_the_registry()
    if role is Role.GATEWAY:
        return [*_of_the_registry(), *_of_figures(), *_of_batches()]
    return [*_of_the_registry(), *_of_inboxes(), *_of_logs(), *_of_leases()]


def _of_the_registry() -> list[Command]:
    return [
        ("TIME",),
        ("SMEMBERS", keys.MODELS),
        ("ZRANGEBYSCORE", keys.workers(_NAME), "0", "1"),
        ("HVALS", keys.worker_infos(_NAME)),
    ]


def _of_figures() -> list[Command]:
    return [("GET", keys.worker_figures(_NAME)), ("PTTL", keys.worker_figures(_NAME))]


def _of_inboxes() -> list[Command]:
    inbox, size, state = keys.inbox(_NAME, _NAME), keys.inbox_bytes(_NAME, _NAME), keys.worker_state(_NAME)
    sessions = keys.worker_sessions(_NAME)
    return [
        ("XGROUP", "CREATE", inbox, _NAME, "0", "MKSTREAM"),
        ("XREADGROUP", "GROUP", _NAME, _NAME, "COUNT", "1", "STREAMS", inbox, ">"),
        ("XRANGE", inbox, "-", "+", "COUNT", "1"),
        ("XLEN", inbox),
        ("XACK", inbox, _NAME, "0-1"),
        ("XDEL", inbox, "0-1"),
        ("DECRBY", size, "0"),
        ("DEL", inbox, size, state, sessions),
        ("HSET", state, _NAME, "0"),
        ("HGET", state, _NAME),
        ("PEXPIRE", state, "1"),
        ("HINCRBY", keys.worker_tries(_NAME), _NAME, "0"),
        ("HDEL", keys.worker_tries(_NAME), _NAME),
        ("SADD", sessions, _NAME),
        ("SREM", sessions, _NAME),
        ("SMEMBERS", sessions),
        ("SET", keys.worker_figures(_NAME), "0", "PX", "1"),
        ("XADD", keys.DEAD_LETTERS, "NOMKSTREAM", "*", _NAME, _NAME),
        ("HINCRBY", keys.DEAD_COUNTS, _NAME, "0"),
    ]


def _of_logs() -> list[Command]:
    log, head = (make(_NAME, _NAME, _NAME) for make in (keys.session_log, keys.session_head))
    return [
        ("SCRIPT", "LOAD", "return 1"),
        ("EVAL", "return 1", "2", head, log),
        ("EVALSHA", "0" * 40, "2", head, log),
        ("HMGET", head, _NAME),
        ("HSET", head, _NAME, "0"),
        ("XRANGE", log, "-", "+", "COUNT", "1"),
        ("XADD", log, "NOMKSTREAM", "*", _NAME, _NAME),
        ("XADD", keys.feed(_NAME, _NAME), "NOMKSTREAM", "*", _NAME, _NAME),
    ]


def _of_leases() -> list[Command]:
    workers, infos, claim = keys.workers(_NAME), keys.worker_infos(_NAME), keys.recovery_claim(_NAME, _NAME)
    return [
        ("SADD", keys.MODELS, _NAME),
        ("SREM", keys.MODELS, _NAME),
        ("ZADD", workers, "0", _NAME),
        ("ZREM", workers, _NAME),
        ("ZSCORE", workers, _NAME),
        ("ZCARD", workers),
        ("HSET", infos, _NAME, "0"),
        ("HDEL", infos, _NAME),
        ("SET", claim, _NAME, "NX", "PX", "1"),
        ("GET", claim),
        ("DEL", claim),
        ("HSET", keys.quota(_NAME), _NAME, "0"),
        ("ZADD", keys.quota_sessions(_NAME), "0", _NAME),
        ("GET", keys.TENANTS_VERSION),
        ("HGETALL", keys.TENANTS),
    ]


def _of_batches() -> list[Command]:
    active, leases, owners = (make(_NAME) for make in (keys.active_batches, keys.line_leases, keys.line_owners))
    return [
        ("HGETALL", keys.TENANTS),
        ("SMEMBERS", keys.BATCH_TENANTS),
        ("SCRIPT", "LOAD", "return 1"),
        ("EVAL", "return 1", "2", active, leases),
        ("EVALSHA", "0" * 40, "2", active, leases),
        ("ZRANGE", active, "0", "1"),
        ("ZADD", leases, "0", _NAME),
        ("HSET", owners, _NAME, "0"),
        ("GET", keys.stored_bytes(_NAME)),
        ("ZRANGEBYSCORE", "arq:probe", "0", "1"),
        ("PSETEX", "arq:probe:key", "1", "0"),
    ]


async def denied(redis: Redis, commands: list[Command]) -> list[Command]:
    """Return those of ``commands`` that the user may not send to one server; nothing is changed there.

    A server checks rights when it queues a command of a transaction. A user that may not begin one is not checked.
    """
    connection = await redis.connection_pool.get_connection()
    try:
        await connection.send_command("MULTI")
        try:
            await connection.read_response()
        except NoPermissionError:
            return []
        await connection.send_packed_command(connection.pack_commands([*commands, ("DISCARD",)]), check_health=False)
        refused = []
        for command in commands:
            try:
                await connection.read_response()
            except NoPermissionError:
                refused.append(command)
            except ResponseError:  # another node's slot, a full server: allowed, but for that
                continue
        await connection.read_response()
    finally:
        await connection.disconnect()
        await redis.connection_pool.release(connection)
    return refused
