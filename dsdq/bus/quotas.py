"""Tenants' limits, kept by one script on Redis: reserved before a session opens, settled when it has ended.

However many ask at once, no more is given than there is. What is reserved and never settled, because its worker died
before the session opened, lapses and is given back. Time is Redis's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.bus.sessions import Place
from dsdq.errors import QuotaError
from dsdq.tenants import Limits, Tenant

TTL_MS = 60_000  # a reservation that nobody renews lapses after

Mode = Literal["reserve", "renew", "settle"]


@dataclass(frozen=True, slots=True)
class Use:
    """What one session uses of its tenant's limits: tokens that it commits, and positions that are verified for it.

    So many in all, should it draft no more, and so many ``used`` by now. ``epoch`` is its owner's.
    """

    place: Place
    committed: int
    verified: int
    used_committed: int = 0
    used_verified: int = 0
    epoch: int = 1


class Quotas:
    """The limits of all tenants."""

    def __init__(self, redis: Redis, *, ttl_ms: int = TTL_MS) -> None:
        self._redis = redis
        self._ttl_ms = ttl_ms

    async def reserve(self, tenant: Tenant, use: Use) -> int | None:
        """Reserve what a session may come to use; return what is left of ``verified_per_minute``, None without it.

        Who asks again for the same session gets the same reservation.

        Raises:
            QuotaError: a limit does not leave that much; nothing is reserved.
        """
        (left,) = await self._call("reserve", tenant, [use])
        return left

    async def renew(self, tenant: Tenant, uses: Sequence[Use]) -> int | None:
        """Keep the reservations of sessions that run, and take what they have used beyond; return what is left.

        What is left of ``verified_per_minute`` may be less than nothing: what was verified was.
        """
        lefts = await self._call("renew", tenant, uses)
        return lefts[-1] if lefts else None

    async def settle(self, tenant: Tenant, uses: Sequence[Use]) -> int | None:
        """Put what sessions have ``used`` in the place of what was reserved, each once; return what is left."""
        lefts = await self._call("settle", tenant, uses)
        return lefts[-1] if lefts else None

    async def _call(self, mode: Mode, tenant: Tenant, uses: Sequence[Use]) -> list[int | None]:
        name, limits = tenant.name, _arguments(tenant.limits)
        places = [keys.quota(name), keys.quota_sessions(name), keys.quota_reserved(name)]
        calls: list[scripts.Call] = []
        for use in uses:
            session = f"{use.place.producer}/{use.place.session}"
            amounts = use.committed, use.verified, use.used_committed, use.used_verified, use.epoch
            calls.append((places, [mode, session, self._ttl_ms, *amounts, *limits]))
        with translated():
            answers = await scripts.call_many(self._redis, "quota", calls) if calls else []
        return [_left(tenant, use, answer) for use, answer in zip(uses, answers, strict=True)]


def _arguments(limits: Limits) -> list[scripts.Argument]:
    return ["" if limit is None else limit for limit in limits.model_dump().values()]


def _left(tenant: Tenant, use: Use, answer: Sequence[bytes]) -> int | None:
    """Return what an answer says is left, or raise what it refuses with."""
    if answer[0] == b"OK":
        return int(answer[1]) if answer[1] else None
    limit, left, retry_ms = answer[1].decode(), int(answer[2]), int(answer[3])
    wanted = {"committed": use.committed, "verified": use.verified}.get(limit.partition("_")[0], 1)
    bound = getattr(tenant.limits, limit)
    if retry_ms < 0:
        when = "that is more than it ever allows: ask for less, or have it raised"
    elif retry_ms:
        when = f"come back in {retry_ms / 1000:.1f} s"
    else:
        when = "come back when a session has ended"
    msg = f"tenant {tenant.name}: limit {limit} of {bound} leaves {max(left, 0)}, this session needs {wanted}; {when}"
    raise QuotaError(msg, limit=limit, left=max(left, 0), retry_after_ms=retry_ms)
