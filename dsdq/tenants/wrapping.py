"""Tenants' secrets at rest: encrypted with the service's key, which is in no Redis.

AES-256-GCM under a key derived from the service's for this use alone; the tenant's name is authenticated, so that no
secret can be put in another's place.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dsdq.errors import ConfigError
from dsdq.sealing import hkdf

NONCE_BYTES = 12
_WRAPPING = b"dsdq.tenant.secret\0"


def wrap(service_key: bytes, tenant: str, secret: bytes) -> str:
    """Return a tenant's secret as it may be stored, in hexadecimal digits; twice the same differs."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return (nonce + _cipher(service_key).encrypt(nonce, secret, tenant.encode())).hex()


def unwrap(service_key: bytes, tenant: str, wrapped: str) -> bytes:
    """Return the secret that :func:`wrap` was given.

    Raises:
        ConfigError: it was wrapped with another service key or for another tenant, or has been changed.
    """
    try:
        stored = bytes.fromhex(wrapped)
        return _cipher(service_key).decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], tenant.encode())
    except (InvalidTag, ValueError):
        raise ConfigError(
            f"tenant {tenant}: its secret cannot be read; expected the DSDQ_SERVICE_KEY that it was added with"
        ) from None


def _cipher(service_key: bytes) -> AESGCM:
    return AESGCM(hkdf(service_key, info=_WRAPPING))
