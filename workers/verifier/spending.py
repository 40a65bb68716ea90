"""What sessions use of their tenants' limits: reserved before they open, renewed while they run, settled at their end.

Of what a session verifies as much is reserved as it may commit: decoding alone it takes no more. What drafts take
beyond is taken as it is used. A tenant that has used all of it gets no more drafts verified until there is some again,
and its sessions go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence

from dsdq.bus.quotas import TTL_MS, Quotas, Use
from dsdq.bus.sessions import place_of
from dsdq.contract import Contract
from dsdq.errors import BusError
from dsdq.telemetry.logs import get_logger
from dsdq.tenants import Limits, Tenant
from dsdq.wire.limits import MAX_COUNT
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

    def never(self, contract: Contract) -> None:
        """Take note of a session that did not open here after all, and is open nowhere else."""
        if self._limited(contract.tenant) is not None:
            self._ended.append((contract.tenant, Use(place_of(contract), 0, 0, epoch=MAX_COUNT)))

    def ended(self, held: Held) -> None:
        """Take note of a session that has ended here, and is nobody else's."""
        if self._limited(held.tenant) is not None:
            self._ended.append((held.tenant, _use(held)))

    async def run(self, sessions: Callable[[], Awaitable[Sequence[Held]]]) -> None:
        """Settle and renew until cancelled."""
        while True:
            await asyncio.sleep(RENEW_S)
            await self.settle()
            with contextlib.suppress(BusError):
                await self._renew(await sessions())

    async def settle(self) -> None:
        """Settle for the sessions that have ended; where Redis does not answer, the next time."""
        ended = list(self._ended)
        for tenant, uses in self._by_tenant(ended):
            with self._forgiving(tenant):
                self._note(tenant, await self._quotas.settle(tenant, uses))
                self._ended = [one for one in self._ended if one[1] not in uses]
        self._ended = [one for one in self._ended if one not in ended or self._limited(one[0]) is not None]

    async def _renew(self, sessions: Sequence[Held]) -> None:
        self.frugal &= {held.tenant for held in sessions if self._limited(held.tenant) is not None}
        for tenant, uses in self._by_tenant([(held.tenant, _use(held)) for held in sessions]):
            with self._forgiving(tenant):
                self._note(tenant, await self._quotas.renew(tenant, uses))

    @contextlib.contextmanager
    def _forgiving(self, tenant: Tenant) -> Iterator[None]:
        """Let what fails for one tenant be tried again: what is not renewed for long lapses, and is made again."""
        try:
            yield
        except BusError as error:
            log.warning("limits not reached", tenant=tenant.name, reason=str(error), lapse_ms=TTL_MS)

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
    """Return what a session has used, and will have, should it draft no more."""
    state = held.state
    most, committed, verified = state.contract.max_tokens, state.transcript.generated, state.counts.verified
    return Use(held.place, most, verified + most - committed, committed, verified, state.epoch)
