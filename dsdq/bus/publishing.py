"""How a device puts a message into a worker's inbox (:mod:`dsdq.bus.inbox` is the reading side)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts, together
from dsdq.bus.connection import translated
from dsdq.errors import BusyError, GoneError
from dsdq.sealing import Seal


async def publish(
    redis: Redis,
    worker: str,
    tenant: str,
    payload: bytes,
    *,
    producer: str = "",
    seal: Seal | None = None,
    opens: bool = False,
) -> None:
    """Put one message into a worker's inbox; one that ``opens`` leaves the places free that are kept for sessions.

    Raises:
        BusyError: the inbox is full, or an open would wait too long; come back after ``retry_after_ms``.
        GoneError: the worker takes no more messages, or never existed.
        RedisUnavailableError: no answer.
    """
    sealed: list[scripts.Argument] = [producer] if seal is None else [seal.producer, seal.session, seal.mac]
    with translated():
        arguments = [payload, "open" if opens else "", *sealed]
        answer = await together.call(redis, "publish", _places(worker, tenant), arguments)
    if answer[0] == b"BUSY":
        msg = f"verifier {worker}: full for tenant {tenant}; come back in {answer[1]} ms"
        raise BusyError(msg, int(answer[1]))
    if answer[0] == b"GONE":
        msg = f"inbox of verifier {worker}: closed; it stopped, or never served tenant {tenant}"
        raise GoneError(msg)


@lru_cache
def _places(worker: str, tenant: str) -> Sequence[str]:
    return keys.inbox(worker, tenant), keys.inbox_bytes(worker, tenant), keys.worker_state(worker)
