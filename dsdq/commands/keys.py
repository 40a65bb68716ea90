"""``dsdq keys``: a tenant's secret, and the key of each of its devices."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from dsdq.errors import ConfigError
from dsdq.sealing import KEY_BYTES, producer_key
from dsdq.settings import settings

keys = typer.Typer(no_args_is_help=True, help="Secrets of tenants and keys of devices, with which messages are sealed.")


@keys.command()
def new() -> None:
    """Print a fresh secret for a tenant. Give it to the tenant's verifiers, and to nobody else."""
    typer.echo(secrets.token_hex(KEY_BYTES))


@keys.command()
def producer(
    tenant: Annotated[str, typer.Option(help="Whose device; DSDQ_TENANT_SECRETS must name it.")],
    producer: Annotated[str, typer.Option(help="The device's name, of a-z, 0-9 and -.")],
) -> None:
    """Print the key that one device seals with, as DSDQ_PRODUCER_KEY. Give it to that device alone."""
    secret = settings().tenant_secrets.get(tenant)
    if secret is None:
        raise ConfigError(f"expected the secret of tenant {tenant} in DSDQ_TENANT_SECRETS ({tenant}=<hex>), got none")
    typer.echo(producer_key(secret.get_secret_value(), producer).hex())
