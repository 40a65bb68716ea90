"""Seals: who published a message, shown by a MAC that only that producer's key can make.

A tenant's secret stays with the workers. ``K_producer = HKDF(tenant secret, producer)`` is given to that device alone,
``K_session = HKDF(K_producer, session)`` seals the messages of one session. Pure: standard library only, no I/O.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b32encode
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Self

from dsdq.errors import SealError
from dsdq.keys import NAME

KEY_BYTES = 32
MAC_BYTES = 16
MIN_SECRET_BYTES = 16
KEYS_KEPT = 4_096

# Each use of a key has a domain of its own, so that no output of one can pass for another's.
_PRODUCER = b"dsdq.seal.producer\0"
_SESSION = b"dsdq.seal.session\0"
_MESSAGE = b"dsdq.seal.message\0"
_HELLO = b"dsdq.seal.hello\0"
_MADE = b"dsdq.name"
_MARK_BYTES = 16


@dataclass(frozen=True, slots=True)
class Seal:
    """The envelope beside a message: whose key (``producer``), for which ``session``, and the MAC of the bytes."""

    producer: str
    session: str
    mac: bytes

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes]) -> Self | None:
        """Return the seal among an inbox entry's fields ``p``, ``s``, ``a``; None where the entry is not sealed.

        Raises:
            SealError: there is half a seal, or one whose parts are not names and a MAC.
        """
        session, mac = fields.get(b"s"), fields.get(b"a")
        if session is None and mac is None:
            return None
        if mac is None or len(mac) != MAC_BYTES:
            raise SealError(f"seal: expected a MAC of {MAC_BYTES} bytes, got {'none' if mac is None else len(mac)}")
        return cls(_name("producer", fields.get(b"p")), _name("session", session), mac)


def hkdf(secret: bytes, *, info: bytes, salt: bytes = b"", length: int = KEY_BYTES) -> bytes:
    """Return ``length`` bytes of HKDF-SHA256 (RFC 5869) of ``secret``."""
    extracted = hmac.digest(salt or bytes(hashlib.sha256().digest_size), secret, hashlib.sha256)
    block, derived = b"", b""
    for number in count(1):
        block = hmac.digest(extracted, block + info + bytes([number]), hashlib.sha256)
        derived += block
        if len(derived) >= length:
            break
    return derived[:length]


def producer_key(secret: bytes, producer: str) -> bytes:
    """Return the 32 bytes that one device seals with; it cannot find its tenant's secret or a sibling's key from them.

    Raises:
        SealError: ``producer`` is not a name.
    """
    name = _name("producer", producer.encode())
    return hkdf(secret, info=_PRODUCER + name.encode())


def session_key(key_of_producer: bytes, session: str) -> bytes:
    """Return the 32 bytes that seal one session's messages."""
    return hkdf(key_of_producer, info=_SESSION + session.encode())


def sealed(key_of_producer: bytes, producer: str, session: str, payload: bytes) -> Seal:
    """Return the seal of a message: equal messages have equal seals, so that a repeated one is repeated whole."""
    return Seal(producer, session, _mac(session_key(key_of_producer, session), payload))


def proof_of(key_of_producer: bytes, nonce: bytes) -> bytes:
    """Return what shows a gateway, that has asked with ``nonce``, who has this key."""
    return hmac.digest(key_of_producer, _HELLO + nonce, hashlib.sha256)[:MAC_BYTES]


def name_made_of(secret: bytes, label: str = "device") -> str:
    """Return the name of a device that has no key: ``label``, and what nobody can make who does not know ``secret``.

    So who shows the secret has shown the name to be its own, to any gateway, without anything being kept anywhere.

    Raises:
        SealError: the label is none, or too long for a name.
    """
    mark = b32encode(hashlib.blake2b(secret, digest_size=_MARK_BYTES, person=_MADE).digest()).decode()
    return _name("producer", f"{label}-{mark.rstrip('=').lower()}".encode())


def is_made_of(name: str, secret: bytes) -> bool:
    """Say whether a name is one that :func:`name_made_of` gives."""
    label, _, _ = name.rpartition("-")
    try:
        return bool(label) and hmac.compare_digest(name, name_made_of(secret, label))
    except SealError:  # the label is longer than that of any name it gives
        return False


def is_by(key_of_session: bytes, seal: Seal, payload: bytes) -> bool:
    """Say whether a seal was made for these very bytes with this key; nothing of them is parsed."""
    return hmac.compare_digest(_mac(key_of_session, payload), seal.mac)


class Keyring:
    """The workers' side: which tenants must seal, and whether a seal is theirs.

    ``secrets`` maps tenants to their secrets, of which any will do: there are two while they are changed. Keys of at
    most ``kept`` sessions are kept, longest unused dropped first; and only those that a message has proved, so that
    made-up names push nobody out.
    """

    def __init__(self, secrets: Mapping[str, Sequence[bytes]], *, kept: int = KEYS_KEPT) -> None:
        self._secrets = dict(secrets)
        self._kept = kept
        self._proved: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()

    def hold(self, secrets: Mapping[str, Sequence[bytes]]) -> None:
        """Go by these secrets from now on; what was made with others is not believed any more."""
        if secrets != self._secrets:
            self._secrets = dict(secrets)
            self._proved.clear()

    def must_seal(self, tenant: str) -> bool:
        """Say whether a tenant has a secret: then none of its messages is taken without a seal."""
        return tenant in self._secrets

    def check(self, tenant: str, seal: Seal, payload: bytes) -> None:
        """Return when the seal is of these bytes, by a device of this tenant.

        Raises:
            SealError: it is not, or the tenant has no secret.
        """
        place = (tenant, seal.producer, seal.session)
        known = self._proved.get(place)
        key = known if known is not None and is_by(known, seal, payload) else self._prove(tenant, seal, payload)
        self._proved[place] = key
        self._proved.move_to_end(place)
        if len(self._proved) > self._kept:
            self._proved.popitem(last=False)

    def _prove(self, tenant: str, seal: Seal, payload: bytes) -> bytes:
        """Return the session's key by which the message is sealed."""
        secrets = self._secrets.get(tenant)
        if not secrets:
            raise SealError(f"seal: expected a tenant that has a secret, got {tenant}")
        for secret in secrets:
            key = session_key(producer_key(secret, seal.producer), seal.session)
            if is_by(key, seal, payload):
                return key
        raise SealError(
            f"seal: expected the MAC of these {len(payload)} bytes by producer {seal.producer} for session "
            f"{seal.session}, got another; the device needs the key that `dsdq keys producer` prints for it"
        )


def _mac(key_of_session: bytes, payload: bytes) -> bytes:
    return hmac.digest(key_of_session, _MESSAGE + payload, hashlib.sha256)[:MAC_BYTES]


def _name(what: str, came: bytes | None) -> str:
    # Bounded before anything else: the envelope is all that is looked at before the MAC.
    text = came.decode("ascii", "replace") if came is not None and len(came) <= 64 else ""
    if not NAME.fullmatch(text):
        shown = "none" if came is None else repr(came[:64])
        raise SealError(f"seal: expected a {what} of 1 to 64 of a-z, 0-9 and -, got {shown}")
    return text
