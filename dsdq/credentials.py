"""How secrets are given in settings: parsed and bounded here, shown nowhere, least of all in the error about one."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretBytes, SecretStr
from pydantic_settings import NoDecode

from dsdq.keys import NAME
from dsdq.sealing import KEY_BYTES, MIN_SECRET_BYTES

MIN_PASSWORD_CHARACTERS = 16


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.strip().split("=", 1) for part in value.split(",") if part.strip()]
    if any(len(pair) != 2 for pair in pairs) or len({pair[0] for pair in pairs}) != len(pairs):
        raise ValueError("expected NAME=VALUE with commas between, each name once")
    return dict(pairs)


def _from_hex(value: object) -> object:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("expected hexadecimal digits, two for each byte") from None


def _check_secrets(given: dict[str, SecretBytes]) -> dict[str, SecretBytes]:
    for tenant, secret in given.items():
        if not NAME.fullmatch(tenant):
            raise ValueError("expected tenants named by 1 to 64 of a-z, 0-9 and -")
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(
                f"{tenant}: expected at least {MIN_SECRET_BYTES} bytes; `dsdq keys new` prints a fresh one"
            )
    if len({secret.get_secret_value() for secret in given.values()}) != len(given):
        raise ValueError("expected a secret of its own for each tenant, got one twice")
    return given


def _check_passwords(given: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for user, password in given.items():
        if len(password) < MIN_PASSWORD_CHARACTERS:
            raise ValueError(f"{user}: expected at least {MIN_PASSWORD_CHARACTERS} characters")
    return given


Key = Annotated[SecretBytes, BeforeValidator(_from_hex)]
"""Bytes given in hexadecimal digits."""

ProducerKey = Annotated[Key, Field(min_length=KEY_BYTES, max_length=KEY_BYTES)]
"""What a device seals with."""

PublicKey = Annotated[bytes, BeforeValidator(_from_hex), Field(min_length=KEY_BYTES, max_length=KEY_BYTES)]
"""What the service signs with, as everybody may know it."""

TenantSecrets = Annotated[dict[str, Key], NoDecode, BeforeValidator(_pairs), AfterValidator(_check_secrets)]
"""Tenants' secrets, as ``acme=<hex>,globex=<hex>``."""

Passwords = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_pairs), AfterValidator(_check_passwords)]
"""Passwords of Redis users, as ``user=password,user=password``."""
