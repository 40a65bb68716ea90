"""Reading what tenants have used: one hash per producer, tenant and month, written by the script that commits.

It lies in the producer's own slot, so that a commit and what it is charged for are one and the same write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus.connection import translated
from dsdq.tenants.usage import METRICS, NOTHING, Usage

HOUR = timedelta(hours=1)
SCAN_COUNT = 1000


def month_of(moment: datetime) -> str:
    """Return the month that a key is named by."""
    return moment.astimezone(UTC).strftime("%Y-%m")


async def usage_of(redis: Redis, tenant: str, since: datetime, until: datetime) -> dict[datetime, Usage]:
    """Return what a tenant used, by the hour's beginning, of hours that begin from ``since`` and before ``until``.

    Nothing is written: a bill may be made as often as one likes.
    """
    hours: defaultdict[datetime, Usage] = defaultdict(lambda: NOTHING)
    for month in _months(since, until):
        for key in {key async for key in _scan(redis, keys.usage("*", tenant, month))}:  # it may give one twice
            with translated():
                counted = await redis.hgetall(key)
            for name, count in counted.items():
                hour, metric = name.decode().split(":")
                begins = datetime.fromtimestamp(3600 * int(hour), UTC)
                if since <= begins < until and metric in METRICS:
                    hours[begins] += Usage(**{metric: int(count)})
    return dict(sorted(hours.items()))


def _months(since: datetime, until: datetime) -> list[str]:
    """Return the months whose keys may hold something of a span.

    A session goes on counting under the month in which it was taken up, which may be the one before.
    """
    day, months = since.astimezone(UTC) - timedelta(days=31), list[str]()
    while day <= until + timedelta(days=1):
        if month_of(day) not in months:
            months.append(month_of(day))
        day += timedelta(days=1)
    return months


async def _scan(redis: Redis, pattern: str) -> AsyncIterator[bytes]:
    with translated():
        async for key in redis.scan_iter(match=pattern, count=SCAN_COUNT):
            yield key
