"""API keys: shown once, stored as a hash.

A key names its tenant and itself, so that it is found without trying all, and ends with 256 random bits. Those cannot
be guessed, however fast the hash is: a slow one, as for passwords, would only slow down requests.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from dsdq.errors import DeniedError
from dsdq.keys import NAME

SECRET_BYTES = 32
ID_BYTES = 4
_SHAPE = re.compile(rf"dsdq_({NAME.pattern})_([0-9a-f]{{{2 * ID_BYTES}}})_([0-9a-f]{{{2 * SECRET_BYTES}}})")


class ApiKey(BaseModel):
    """What is kept of an API key: ``id`` tells it from its tenant's others, ``digest`` is the SHA-256 of the whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    digest: str = Field(pattern="^[0-9a-f]{64}$", repr=False)
    created: datetime

    def is_of(self, text: str) -> bool:
        """Say whether this is the record of the key ``text``; how long that takes tells nothing of it."""
        return hmac.compare_digest(self.digest, _digest(text))


def fresh_key(tenant: str, now: datetime | None = None) -> tuple[str, ApiKey]:
    """Return a new API key, to be shown once, and its record."""
    key_id = secrets.token_hex(ID_BYTES)
    text = f"dsdq_{tenant}_{key_id}_{secrets.token_hex(SECRET_BYTES)}"
    return text, ApiKey(id=key_id, digest=_digest(text), created=now or datetime.now(UTC))


def owner_of(text: str) -> str:
    """Return the tenant that an API key names; whether it is that tenant's is not known yet.

    Raises:
        DeniedError: it has not the form of one.
    """
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise DeniedError(
            "API key: expected dsdq_<tenant>_<id>_<secret> as `dsdq tenant add` printed it, got another form"
        )
    return found[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
