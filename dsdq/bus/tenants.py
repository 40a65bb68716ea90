"""Where tenants' records lie: one hash, and a count of its changes by which others see whether to read it again."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.errors import ConfigError, DeniedError
from dsdq.telemetry.logs import get_logger
from dsdq.tenants import Tenant, owner_of

log = get_logger("tenants")

TRIES = 8


class TenantStore:
    """The records of all tenants."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def version(self) -> int:
        """Return how many changes there were."""
        with translated():
            return int(await self._redis.get(keys.TENANTS_VERSION) or 0)

    async def all(self) -> dict[str, Tenant]:
        """Return every tenant by name, but for those whose record this release cannot read: they are named in the log.

        One that was written by a later release must not keep the others from being served.
        """
        with translated():
            documents = await self._redis.hgetall(keys.TENANTS)
        found = list[Tenant]()
        for name, document in documents.items():
            try:
                found.append(Tenant.read(document))
            except ConfigError as error:
                log.error("tenant unreadable", tenant=name.decode(), reason=str(error))  # noqa: TRY400 - it says all
        return {one.name: one for one in sorted(found, key=lambda one: one.name)}

    async def get(self, name: str) -> Tenant:
        """Return a tenant.

        Raises:
            ConfigError: there is none of that name.
        """
        document = await self._document(name)
        if document is None:
            raise ConfigError(f"expected a tenant that was added, got {name!r}; `dsdq tenant list` shows all")
        return Tenant.read(document)

    async def add(self, tenant: Tenant) -> None:
        """Put a new tenant's record.

        Raises:
            ConfigError: there is one of that name.
        """
        if not await self._put(tenant.name, b"", tenant):
            raise ConfigError(f"expected a new tenant's name, got {tenant.name}, which was added before")

    async def change(self, name: str, change: Callable[[Tenant], Tenant]) -> Tenant:
        """Let ``change`` make a tenant's new record of its present one, again if others change it meanwhile; return it.

        Raises:
            ConfigError: there is none of that name, or others kept changing it.
        """
        for _ in range(TRIES):
            document = await self._document(name)
            if document is None:
                await self.get(name)  # says so
                continue
            changed = change(Tenant.read(document))
            if await self._put(name, document, changed):
                return changed
        raise ConfigError(f"tenant {name}: others kept changing it; try again")

    async def authenticate(self, api_key: str) -> Tenant:
        """Return the tenant whose API key this is.

        Raises:
            DeniedError: it is nobody's, or the tenant is disabled.
        """
        name = owner_of(api_key)
        document = await self._document(name)
        if document is None:
            raise DeniedError(f"API key: expected that of a tenant, got one of {name}, which there is not")
        tenant = Tenant.read(document)
        tenant.check_key(api_key)
        return tenant

    async def _document(self, name: str) -> bytes | None:
        with translated():
            document: bytes | None = await self._redis.hget(keys.TENANTS, name)
        return document

    async def _put(self, name: str, before: bytes, tenant: Tenant) -> bool:
        with translated():
            places = [keys.TENANTS, keys.TENANTS_VERSION]
            return bool(await scripts.call(self._redis, "tenant", places, [name, before, tenant.write()]))
