"""A device that reaches Redis itself: one feed for all its sessions, its messages sealed if it has a key."""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic

from redis.asyncio import Redis

from dsdq.bus.address import shown
from dsdq.bus.connection import check_server, open_redis
from dsdq.bus.feed import FeedReader, Subscription
from dsdq.bus.publishing import publish
from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.bus.rights import Role
from dsdq.contract import Contract
from dsdq.policies.reading import is_far
from dsdq.settings import settings
from dsdq.tasks import run_all
from producers.device.choosing import DEEPEST
from producers.device.client import DeviceClient
from producers.device.models import Models
from producers.device.sealer import Sealer

CHECK_TRIPS = 4  # that a check of the server takes at least
WAYS = 2  # connections for a window in flight: its publication's and its answer's


class RedisWay:
    """See :class:`producers.device.way.Way`."""

    def __init__(self, url: str, tenant: str, sealer: Sealer, *, allow_unsafe: bool) -> None:
        self.where = shown(url)
        self._redis: Redis = open_redis(url)
        self._tenant, self._sealer = tenant, sealer
        self._allow_unsafe = allow_unsafe
        self._is_far = False
        self._feed = FeedReader(self._redis, sealer.producer, tenant)
        self._registry = Registry(self._redis)

    @property
    def tenant(self) -> str:
        """See :class:`producers.device.way.Way`."""
        return self._tenant

    @property
    def producer(self) -> str:
        """See :class:`producers.device.way.Way`."""
        return self._sealer.producer

    async def open(self) -> None:
        """Check that the server is fit for use."""
        began_s = monotonic()
        await check_server(self._redis, role=Role.DEVICE, allow_unsafe=self._allow_unsafe)
        self._is_far = is_far(1000 * (monotonic() - began_s) / CHECK_TRIPS)

    async def prepare(self) -> None:
        """Start to follow the feed; where the server is far, have connections for what is to be published."""
        await run_all(self._feed.start(), self._feed.prepare(WAYS * DEEPEST if self._is_far else 0))

    async def close(self) -> None:
        """Stop following and disconnect."""
        await self._feed.stop()
        await self._redis.aclose()

    async def models(self) -> list[str]:
        """See :class:`producers.device.way.Way`."""
        return await self._registry.list_models()

    async def served(self, model: str | None, expected: Collection[str]) -> dict[str, list[WorkerInfo]]:
        """See :class:`producers.device.way.Way`."""
        if model is None:
            return await self._registry.list_served(expected)
        return {model: await self._registry.list_workers(model)}

    async def publish(self, worker: str, contract: Contract, request: bytes, *, opens: bool) -> None:
        """See :class:`producers.device.way.Way`."""
        seal = self._sealer.seal(contract.session, request)
        producer = contract.producer
        await publish(self._redis, worker, contract.tenant, request, producer=producer, seal=seal, opens=opens)

    def subscribe(self, contract: Contract) -> Subscription:
        """See :class:`producers.device.way.Way`."""
        return self._feed.subscribe(contract)

    def unsubscribe(self, subscription: Subscription) -> None:
        """See :class:`producers.device.way.Way`."""
        self._feed.unsubscribe(subscription)

    def look_ahead(self, subscription: Subscription, answers: int) -> None:
        """See :class:`producers.device.way.Way`."""
        self._feed.look_ahead(subscription, answers)

    async def catch_up(self, subscription: Subscription) -> bool:
        """See :class:`producers.device.way.Way`."""
        return await self._feed.catch_up(subscription)

    async def owner(self, subscription: Subscription) -> str | None:
        """See :class:`producers.device.way.Way`."""
        return await self._feed.owner(subscription)


class RedisClient(DeviceClient):
    """A client that speaks Redis; see :class:`dsdq.client.Client`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        tenant: str = "default",
        producer: str | None = None,
        sealer: Sealer | None = None,
        models: Models | None = None,
    ) -> None:
        """Speak for a device of ``tenant``: named ``producer``, or as ``sealer`` is, else as the settings say.

        Clients that share ``models`` load each of them once.
        """
        chosen = settings()
        whose, unsafe = sealer or Sealer.of(chosen, producer), chosen.allow_unsafe_redis
        super().__init__(RedisWay(url or chosen.redis_url, tenant, whose, allow_unsafe=unsafe), chosen, models)
