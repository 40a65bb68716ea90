"""Who asks: the tenant whose API key a request carries.

While no tenant is recorded there are no keys, and everybody is ``default``, as for devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic

from dsdq.bus.tenants import TenantStore
from dsdq.errors import DeniedError
from dsdq.tenants import DEFAULT_TENANT, Tenant, owner_of
from producers.openai.errors import ApiError, unauthorized

FRESH_S = 1.0  # a key that was rotated or a tenant that was disabled opens nothing any more after

_EVERYBODY = Tenant(name=DEFAULT_TENANT, created=datetime.fromtimestamp(0, UTC))


class Doors:
    """Lets tenants in by their keys."""

    def __init__(self, store: TenantStore) -> None:
        self._store = store
        self._reading = asyncio.Lock()
        self._version = -1
        self._read_s = -FRESH_S
        self._tenants: Mapping[str, Tenant] = {}

    async def enter(self, authorization: str | None) -> Tenant:
        """Return the tenant of an ``Authorization`` header.

        Raises:
            ApiError: the key opens nothing (401), or its tenant is disabled (403).
            BusError: records cannot be read.
        """
        await self._follow()
        if not self._tenants:
            return _EVERYBODY
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise unauthorized("expected an API key as `Authorization: Bearer KEY`, got none")
        return self._owner(key.strip())

    def _owner(self, key: str) -> Tenant:
        tenant = None
        with suppress(DeniedError):  # nobody is told whether form, name or secret was wrong
            tenant = self._tenants.get(owner_of(key))
        if tenant is None or not any(one.is_of(key) for one in tenant.keys):
            raise unauthorized("Incorrect API key provided; `dsdq tenant add` or `rotate` printed the right one, once")
        if not tenant.enabled:
            raise ApiError(403, f"tenant {tenant.name} is disabled", "tenant_disabled", kind="permission_error")
        return tenant

    async def _follow(self) -> None:
        """Read the records if one has changed, at most once in a while."""
        async with self._reading:
            if monotonic() - self._read_s < FRESH_S:
                return
            version = await self._store.version()
            if version != self._version:
                self._tenants = await self._store.all()
                self._version = version
            self._read_s = monotonic()
