"""What sessions use of their tenants' limits: reserved before they open, renewed while they run, settled at their end.

Of what a session verifies as much is reserved as it may commit: decoding alone it takes no more. What drafts take
beyond is taken as it is used. A tenant that has used all of it gets no more drafts verified until there is some again,
and its sessions go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from dsdq.bus.quotas import TTL_MS, Quotas, Use
from dsdq.bus.sessions import place_of
from dsdq.contract import Contract
from dsdq.errors import BusError
from dsdq.telemetry.logs import get_logger
from dsdq.tenants import Limits, Tenant
from workers.verifier.held import Held
from workers.verifier.tenancy import Tenancy

log = get_logger("verifier")

RENEW_S = 2.0


class Spending:
    """Speaks for all sessions of a verifier. ``frugal`` are the tenants that get no drafts verified for now."""

    def __init__(self, quotas: Quotas, tenancy: Tenancy) -> None:
        self.frugal: set[str] = set()
        self._quotas = quotas
        self._tenancy = tenancy
        self._ended: list[tuple[str, Use]] = []

    async def reserve(self, contract: Contract) -> None:
        """Reserve what a session may come to use; a tenant without limits has nothing to reserve.

        Raises:
            QuotaError: a limit does not leave that much.
            RedisUnavailableError: no answer.
        """
        tenant = self._limited(contract.tenant)
        if tenant is not None:
            use = Use(place_of(contract), contract.max_tokens, contract.max_tokens)
            self._note(tenant, await self._quotas.reserve(tenant, use))

    def ended(self, held: Held) -> None:
        """Take note of a session that has ended here, and is nobody else's."""
        self._ended.append((held.tenant, _use(held)))

    async def run(self, sessions: Callable[[], Iterable[Held]]) -> None:
        """Settle and renew until cancelled."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self.settle()
                await self._renew(sessions())
            except BusError as error:  # what is not renewed for long lapses, and is made again
                log.warning("limits not reached", reason=str(error), lapse_ms=TTL_MS)

    async def settle(self) -> None:
        """Settle for the sessions that have ended.

        Raises:
            BusError: no answer; they are settled the next time.
        """
        ended = list(self._ended)
        for tenant, uses in self._by_tenant(ended):
            self._note(tenant, await self._quotas.settle(tenant, uses))
        del self._ended[: len(ended)]

    async def _renew(self, sessions: Iterable[Held]) -> None:
        self.frugal &= {held.tenant for held in sessions}
        for tenant, uses in self._by_tenant([(held.tenant, _coming_use(held)) for held in sessions]):
            self._note(tenant, await self._quotas.renew(tenant, uses))

    def _note(self, tenant: Tenant, left: int | None) -> None:
        """Take note of what is left of a tenant's verified positions."""
        if left is not None and left <= 0:
            self.frugal.add(tenant.name)
        else:
            self.frugal.discard(tenant.name)

    def _by_tenant(self, uses: Sequence[tuple[str, Use]]) -> list[tuple[Tenant, list[Use]]]:
        """Return the uses of each tenant that has limits."""
        limited = [tenant for name in {name for name, _ in uses} if (tenant := self._limited(name)) is not None]
        return [(tenant, [use for name, use in uses if name == tenant.name]) for tenant in limited]

    def _limited(self, name: str) -> Tenant | None:
        """Return a tenant's record if it has limits."""
        tenant = self._tenancy.roster.records.get(name)
        return None if tenant is None or tenant.limits == Limits() else tenant


def _use(held: Held) -> Use:
    """Return what a session has used."""
    return Use(held.place, held.state.transcript.generated, held.state.counts.verified)


def _coming_use(held: Held) -> Use:
    """Return what a session will have used, should it draft no more."""
    most, used = held.state.contract.max_tokens, _use(held)
    return Use(held.place, most, used.verified + most - used.committed)
