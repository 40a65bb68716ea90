"""One client for each tenant that a gateway or a batch worker speaks for; models are loaded once for all of them."""

from __future__ import annotations

import asyncio
import secrets
from itertools import takewhile

from dsdq.sealing import producer_key
from dsdq.settings import Settings
from dsdq.tasks import run_all
from dsdq.tenants import Tenant
from producers.device.models import Models
from producers.device.over_redis import RedisClient
from producers.device.sealer import Sealer
from producers.openai.tenants import secrets_of


class Clients:
    """Connected clients by tenant, made when they are first asked for.

    A tenant whose devices must seal is spoken for with a key that is made from its secret, so whoever holds clients
    needs ``DSDQ_SERVICE_KEY``. A client whose secret the tenant has no more is closed: nobody believes
    what it seals. ``kind`` begins the producer's name, which is by chance.
    """

    def __init__(self, url: str, chosen: Settings, models: Models, *, kind: str) -> None:
        self._url, self._chosen, self._models = url, chosen, models
        self._producer = f"{kind}-{secrets.token_hex(6)}"
        self._making = asyncio.Lock()
        self._clients: dict[str, dict[str, RedisClient]] = {}  # by tenant and secret, the latest last

    async def of(self, tenant: Tenant) -> RedisClient:
        """Return the client that speaks for a tenant.

        Raises:
            BusError: Redis cannot be reached, or does not let us.
            ConfigError: the tenant's secret cannot be read.
        """
        secret = tenant.secrets[0] if tenant.secrets else ""
        mine = self._clients.setdefault(tenant.name, {})
        if secret not in mine or len(mine) > 1:
            async with self._making:
                if secret not in mine:
                    made = RedisClient(self._url, tenant=tenant.name, sealer=self._sealer(tenant), models=self._models)
                    mine[secret] = await made.__aenter__()
                client = mine[secret]
                # A record that was read before another's does not know of later secrets.
                earlier = takewhile(lambda one: one != secret, list(mine))
                for dropped in [one for one in earlier if one not in tenant.secrets]:
                    await mine.pop(dropped).__aexit__(None, None, None)
                return client
        return mine[secret]

    async def aclose(self) -> None:
        """Cancel what runs and disconnect."""
        clients, self._clients = [one for mine in self._clients.values() for one in mine.values()], {}
        await run_all(*(client.__aexit__(None, None, None) for client in clients))

    def _sealer(self, tenant: Tenant) -> Sealer:
        secrets_ = secrets_of(tenant, self._chosen)
        return Sealer(self._producer, producer_key(secrets_[0], self._producer) if secrets_ else None)
