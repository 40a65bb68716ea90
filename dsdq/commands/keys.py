"""``dsdq keys``: a tenant's secret, and the key of each of its devices."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated

import typer

from dsdq.bus.connection import open_redis
from dsdq.bus.tenants import TenantStore
from dsdq.errors import ConfigError
from dsdq.receipts import Signer
from dsdq.sealing import KEY_BYTES, producer_key
from dsdq.settings import settings
from dsdq.tenants import unwrap

keys = typer.Typer(no_args_is_help=True, help="Secrets of tenants and keys of devices, with which messages are sealed.")


@keys.command()
def new() -> None:
    """Print a fresh secret, for a tenant or as DSDQ_SERVICE_KEY. Give it to the verifiers, and to nobody else."""
    typer.echo(secrets.token_hex(KEY_BYTES))


@keys.command()
def producer(
    tenant: Annotated[str, typer.Option(help="Whose device.")],
    producer: Annotated[str, typer.Option(help="The device's name, of a-z, 0-9 and -.")],
    redis: Annotated[
        str | None, typer.Option(help="Where the tenant's record is, to be read with DSDQ_SERVICE_KEY.")
    ] = None,
) -> None:
    """Print the key that one device seals with, as DSDQ_PRODUCER_KEY. Give it to that device alone.

    It is made from the tenant's secret: that in DSDQ_TENANT_SECRETS, or else the newest that `dsdq tenant` has given.
    """
    given = settings().tenant_secrets.get(tenant)
    secret = asyncio.run(_recorded(tenant, redis)) if given is None else given.get_secret_value()
    typer.echo(producer_key(secret, producer).hex())


@keys.command()
def receipts() -> None:
    """Print the public key by which clients know the service's receipts, made from DSDQ_SERVICE_KEY."""
    service_key = settings().service_key
    if service_key is None:
        raise ConfigError("expected DSDQ_SERVICE_KEY, with which the verifiers sign receipts, got none")
    typer.echo(Signer(service_key.get_secret_value()).public_key.hex())


async def _recorded(tenant: str, url: str | None) -> bytes:
    service_key = settings().service_key
    if service_key is None:
        raise ConfigError(
            f"expected the secret of tenant {tenant} in DSDQ_TENANT_SECRETS ({tenant}=<hex>), or DSDQ_SERVICE_KEY to "
            "read it from its record with, got neither"
        )
    client = open_redis(url or settings().redis_url)
    try:
        record = await TenantStore(client).get(tenant)
    finally:
        await client.aclose()
    if not record.secrets:
        raise ConfigError(f"tenant {tenant}: expected one with a secret, got none: see `dsdq tenant rotate --seal`")
    return unwrap(service_key.get_secret_value(), tenant, record.secrets[0])
