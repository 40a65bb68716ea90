"""Who asks: the tenant whose API key a request carries.

While no tenant is recorded there are no keys, and everybody is ``default``, as for devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from starlette.requests import HTTPConnection, Request

from dsdq.errors import DeniedError
from dsdq.tenants import Tenant, owner_of
from producers.openai.errors import ApiError, unauthorized
from producers.openai.tenants import Tenants, unrecorded


class Doors:
    """Lets tenants in by their keys."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    async def enter(self, request: Request) -> Tenant:
        """Return the tenant whose key a request carries.

        Raises:
            ApiError: the key opens nothing (401), or its tenant is disabled (403).
            BusError: records cannot be read.
        """
        return await self.admit(bearer(request))

    async def admit(self, key: str) -> Tenant:
        """Return the tenant whose key this is; none is empty.

        Raises:
            ApiError: the key opens nothing (401), or its tenant is disabled (403).
            BusError: records cannot be read.
        """
        records = await self._tenants.records()
        if not records:
            return unrecorded()
        if not key:
            raise unauthorized("expected an API key as `Authorization: Bearer KEY`, got none")
        return _owner(records, key)

    async def are_open(self) -> bool:
        """Say whether nobody has a key yet, and everybody is let in.

        Raises:
            BusError: records cannot be read.
        """
        return not await self._tenants.records()


def bearer(asked: HTTPConnection) -> str:
    """Return the key in the headers of a request, empty if there is none."""
    scheme, _, key = asked.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _owner(records: Mapping[str, Tenant], key: str) -> Tenant:
    tenant = None
    with suppress(DeniedError):  # nobody is told whether form, name or secret was wrong
        tenant = records.get(owner_of(key))
    if tenant is None or not any(one.is_of(key) for one in tenant.keys):
        raise unauthorized("Incorrect API key provided; `dsdq tenant add` or `rotate` printed the right one, once")
    if not tenant.enabled:
        raise ApiError(403, f"tenant {tenant.name} is disabled", "tenant_disabled", kind="permission_error")
    return tenant
