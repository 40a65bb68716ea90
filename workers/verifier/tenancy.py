"""Which tenants a verifier serves, and under which terms: read from Redis again whenever a record has changed.

Named in ``DSDQ_TENANTS`` they are served with or without a record. Otherwise all are that have one, and ``default``
only while nobody has: as soon as tenants are told apart, nobody may work under a name that anybody can use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dsdq.bus.acl import SELECTORS_SINCE, Version
from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError, RefusedError
from dsdq.telemetry.logs import get_logger
from dsdq.tenants import DEFAULT_TENANT, Tenant, unwrap
from dsdq.wire import ErrorCode

log = get_logger("verifier")


@dataclass(frozen=True, slots=True)
class Roster:
    """The tenants that are served: ``records`` of those that have one, ``secrets`` of those that must seal.

    ``unheard`` are tenants that must seal, by a secret that this verifier cannot read: nothing of theirs is its to do.
    """

    served: tuple[str, ...]
    records: Mapping[str, Tenant] = field(default_factory=dict)
    secrets: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    unheard: frozenset[str] = frozenset()

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the weights of those that have one."""
        return {name: record.weight for name, record in self.records.items()}

    @property
    def disabled(self) -> set[str]:
        """Return the tenants that may have no sessions."""
        return {name for name, record in self.records.items() if not record.enabled}

    def check(self, tenant: str) -> None:
        """Return when a tenant may open a session.

        Raises:
            RefusedError: it may not.
        """
        if tenant in self.disabled:
            raise RefusedError(ErrorCode.TENANT_DISABLED, f"tenant {tenant} is disabled; ask the operator")
        if tenant not in self.served:
            msg = f"tenant {tenant} is not served here: expected one that was added with `dsdq tenant add`"
            raise RefusedError(ErrorCode.TENANT_DISABLED, msg)


class Tenancy:
    """Keeps a :class:`Roster` up to date. ``on_change`` is told of each new one."""

    def __init__(
        self,
        store: TenantStore,
        *,
        named: Sequence[str],
        secrets: Mapping[str, bytes],
        service_key: bytes | None,
        server: Version,
        allow_unsafe: bool,
    ) -> None:
        """Begin without a roster; ``secrets`` are those of the settings, which come before the records'."""
        self.roster = Roster(())
        self.on_change: Callable[[Roster], None] = lambda _: None
        self._store = store
        self._named = tuple(named)
        self._secrets = dict(secrets)
        self._service_key = service_key
        self._mixes = server >= SELECTORS_SINCE or allow_unsafe
        self._version = -1

    async def follow(self) -> None:
        """Read the records if one has changed.

        Raises:
            RedisUnavailableError: no answer.
        """
        version = await self._store.version()
        if version == self._version:
            return
        self.roster = self._roster(await self._store.all())
        self.on_change(self.roster)
        self._version = version

    def _roster(self, records: Mapping[str, Tenant]) -> Roster:
        wanted = self._named or tuple(records) or (DEFAULT_TENANT,)
        if wanted == (DEFAULT_TENANT,) and not records:
            log.info("no tenants", serving=DEFAULT_TENANT, hint="no keys and no limits; `dsdq tenant add` adds some")
        if not self._mixes and len(wanted) > 1:
            log.error("tenants cannot be kept apart by this server", needed="redis 7", serving=wanted[0])
            wanted = wanted[:1]
        secrets = {tenant: [secret] for tenant, secret in self._secrets.items()}
        served, unheard = list[str](), set[str]()
        for tenant in wanted:
            try:
                if tenant in records and tenant not in secrets and records[tenant].secrets:
                    secrets[tenant] = self._unwrapped(records[tenant])
            except ConfigError as error:
                secrets[tenant] = []  # no seal is good
                unheard.add(tenant)
                log.error("tenant not served", tenant=tenant, reason=str(error))  # noqa: TRY400 - it says all
            else:
                served.append(tenant)
        known = {name: records[name] for name in served if name in records}
        return Roster(tuple(served), known, secrets, frozenset(unheard))

    def _unwrapped(self, record: Tenant) -> list[bytes]:
        if self._service_key is None:
            raise ConfigError(f"tenant {record.name}: its secret cannot be read without DSDQ_SERVICE_KEY")
        return [unwrap(self._service_key, record.name, wrapped) for wrapped in record.secrets]
