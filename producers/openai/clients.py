"""One client for each tenant that a gateway or a batch worker speaks for; models are loaded once for all of them."""

from __future__ import annotations

import asyncio
import secrets

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
    needs ``DSDQ_SERVICE_KEY``. ``kind`` begins the producer's name, which is by chance.
    """

    def __init__(self, url: str, chosen: Settings, models: Models, *, kind: str) -> None:
        self._url, self._chosen, self._models = url, chosen, models
        self._producer = f"{kind}-{secrets.token_hex(6)}"
        self._making = asyncio.Lock()
        self._clients: dict[tuple[str, str], RedisClient] = {}

    async def of(self, tenant: Tenant) -> RedisClient:
        """Return the client that speaks for a tenant.

        Raises:
            BusError: Redis cannot be reached, or does not let us.
            ConfigError: the tenant's secret cannot be read.
        """
        secret = tenant.secrets[0] if tenant.secrets else ""
        if (client := self._clients.get((tenant.name, secret))) is not None:
            return client
        async with self._making:
            if (tenant.name, secret) not in self._clients:
                client = RedisClient(self._url, tenant=tenant.name, sealer=self._sealer(tenant), models=self._models)
                self._clients[tenant.name, secret] = await client.__aenter__()
        return self._clients[tenant.name, secret]

    async def aclose(self) -> None:
        """Cancel what runs and disconnect."""
        clients, self._clients = list(self._clients.values()), {}
        await run_all(*(client.__aexit__(None, None, None) for client in clients))

    def _sealer(self, tenant: Tenant) -> Sealer:
        secrets_ = secrets_of(tenant, self._chosen)
        return Sealer(self._producer, producer_key(secrets_[0], self._producer) if secrets_ else None)
