"""A device's name and its key: what it publishes carries its seal, if it was given a key."""

from __future__ import annotations

import secrets
from typing import Self

from dsdq.errors import ConfigError
from dsdq.sealing import KEY_BYTES, Seal, sealed
from dsdq.settings import Settings


class Sealer:
    """Seals in the name of ``producer``; without a ``key`` nothing is sealed."""

    def __init__(self, producer: str, key: bytes | None = None) -> None:
        if key is not None and len(key) != KEY_BYTES:
            raise ConfigError(f"key of producer {producer}: expected {KEY_BYTES} bytes, got {len(key)}")
        self.producer = producer
        self._key = key

    @classmethod
    def of(cls, chosen: Settings, producer: str | None = None) -> Self:
        """Return the sealer of a process: named ``producer``, else as DSDQ_PRODUCER says, else by chance.

        Raises:
            ConfigError: there is a key, which fits one name only, and the name is another or none.
        """
        name = producer or chosen.producer
        if chosen.producer_key is None:
            return cls(name or f"device-{secrets.token_hex(6)}")
        if not name or name != chosen.producer:
            raise ConfigError(
                f"DSDQ_PRODUCER_KEY: expected DSDQ_PRODUCER to say whose key it is, and a device of that name, got "
                f"DSDQ_PRODUCER {chosen.producer!r} and device {name or '(unnamed)'!r}"
            )
        return cls(name, chosen.producer_key.get_secret_value())

    def seal(self, session: str, payload: bytes) -> Seal | None:
        """Return the seal to publish beside ``payload``; the same bytes get the same seal."""
        return None if self._key is None else sealed(self._key, self.producer, session, payload)
