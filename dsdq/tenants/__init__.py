"""Tenants: who they are, what they may use, and what proves it. Pure; the records lie in Redis (dsdq.bus.tenants)."""

from dsdq.tenants.apikeys import ApiKey, fresh_key, owner_of
from dsdq.tenants.records import DEFAULT_TENANT, Limits, Tenant
from dsdq.tenants.wrapping import unwrap, wrap

__all__ = ["DEFAULT_TENANT", "ApiKey", "Limits", "Tenant", "fresh_key", "owner_of", "unwrap", "wrap"]
