"""Who the tenants are, as it was a moment ago: a request must not cost Redis a look at every record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic

from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError
from dsdq.looking import Shared
from dsdq.settings import Settings
from dsdq.tenants import DEFAULT_TENANT, Tenant, unwrap

FRESH_S = 1.0  # a key that was rotated or a tenant that was disabled opens nothing any more after


class Tenants:
    """Tenants' records, read again when one has changed, at most once in a while."""

    def __init__(self, store: TenantStore) -> None:
        self._store = store
        self._reading = Shared(self._read)
        self._version = -1
        self._read_s = -FRESH_S
        self._records: Mapping[str, Tenant] = {}

    async def records(self) -> Mapping[str, Tenant]:
        """Return all records by name.

        Raises:
            BusError: they cannot be read.
        """
        if monotonic() - self._read_s >= FRESH_S:
            await self._reading.get()
        return self._records

    async def named(self, name: str) -> Tenant:
        """Return a tenant's record, or what stands for one that has none."""
        return (await self.records()).get(name) or unrecorded(name)

    async def _read(self) -> None:
        version = await self._store.version()
        if version != self._version:
            self._records = await self._store.all()
            self._version = version
        self._read_s = monotonic()


def secrets_of(tenant: Tenant, chosen: Settings) -> tuple[bytes, ...]:
    """Return what the keys of a tenant's devices are made from, the newest first; none where they need not seal.

    Raises:
        ConfigError: they cannot be read here.
    """
    if (given := chosen.tenant_secrets.get(tenant.name)) is not None:
        return (given.get_secret_value(),)
    if not tenant.secrets:
        return ()
    if chosen.service_key is None:
        raise ConfigError(f"tenant {tenant.name}: its secret cannot be read without DSDQ_SERVICE_KEY")
    key = chosen.service_key.get_secret_value()
    return tuple(unwrap(key, tenant.name, wrapped) for wrapped in tenant.secrets)


def unrecorded(name: str = DEFAULT_TENANT) -> Tenant:
    """Return a tenant without keys, secrets and limits."""
    return Tenant(name=name, created=datetime.fromtimestamp(0, UTC))
