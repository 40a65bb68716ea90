"""Which device is it that has connected: of which tenant, by its API key, and of which name, which it has to show."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.websockets import WebSocket

from dsdq.errors import BusError, ConfigError
from dsdq.sealing import Seal, is_made_of, producer_key, proof_of, sealed
from dsdq.settings import Settings
from dsdq.telemetry.logs import get_logger
from dsdq.wire.frames import Close, Hello
from producers.gateway.doors import Doors, bearer
from producers.openai.errors import ApiError
from producers.openai.tenants import secrets_of

log = get_logger("devices")


class EndedError(Exception):
    """A connection is to end, and why."""

    def __init__(self, close: Close, reason: str) -> None:
        """Keep the close code beside the reason."""
        super().__init__(reason)
        self.close = close


@dataclass(frozen=True, slots=True)
class Badge:
    """A device that is let in: ``key`` is what it came with, ``seals_with`` the key of its name, if it needs one.

    ``hello`` and ``nonce`` show the name to be its own, as long as the tenant's secret is what it was.
    """

    tenant: str
    key: str = field(repr=False)
    hello: Hello = field(repr=False)
    nonce: bytes = field(repr=False)
    seals_with: bytes | None = field(repr=False)

    @property
    def producer(self) -> str:
        """Return the device's name."""
        return self.hello.producer

    def seal(self, session: str, message: bytes, mac: bytes) -> Seal | None:
        """Return the seal of a message: the device's own, if there is one; else the one that its tenant needs."""
        if mac:
            return Seal(self.producer, session, mac)
        return None if self.seals_with is None else sealed(self.seals_with, self.producer, session, message)


class Badges:
    """Says who devices are."""

    def __init__(self, doors: Doors, chosen: Settings) -> None:
        self._doors, self._chosen = doors, chosen

    async def of(self, socket: WebSocket, hello: Hello, nonce: bytes) -> Badge:
        """Return the badge of who says ``hello``.

        Raises:
            EndedError: it is not let in.
        """
        await self._check_origin(socket)
        return await self._admit(bearer(socket) or hello.key, hello, nonce)

    async def again(self, badge: Badge) -> Badge:
        """Return a badge as it would be given now.

        Raises:
            EndedError: it would not.
        """
        return await self._admit(badge.key, badge.hello, badge.nonce)

    async def _admit(self, key: str, hello: Hello, nonce: bytes) -> Badge:
        try:
            tenant = await self._doors.admit(key)
            secrets = secrets_of(tenant, self._chosen)
        except ApiError as error:
            raise EndedError(Close.FORBIDDEN if error.status == 403 else Close.KEY, error.message) from error
        except ConfigError as error:
            log.error("device refused", reason=str(error))  # noqa: TRY400 - it says all there is to say
            raise EndedError(Close.FORBIDDEN, "this gateway cannot read the tenant's secret") from error
        except BusError as error:
            raise _unknown() from error
        keys = [producer_key(one, hello.producer) for one in secrets]
        if not _is_shown(hello, nonce, keys):
            raise EndedError(Close.FORBIDDEN, f"producer {hello.producer}: expected what shows this name, got other")
        return Badge(tenant.name, key, hello, nonce, keys[0] if keys else None)

    async def _check_origin(self, socket: WebSocket) -> None:
        """Keep other sites' pages out where no key does: a browser connects for any page to any address."""
        origin = socket.headers.get("origin")
        if origin is None or _is_of(origin, socket.headers.get("host")):
            return
        try:
            are_open = await self._doors.are_open()
        except BusError as error:
            raise _unknown() from error
        if are_open:
            raise EndedError(Close.FORBIDDEN, f"expected no page, or one of this host, got one of {origin:.80}")


def _is_shown(hello: Hello, nonce: bytes, keys: Sequence[bytes]) -> bool:
    """Say whether a name is made of the secret in its hello, or the proof in it is by one of the name's keys."""
    if hello.secret:
        return is_made_of(hello.producer, hello.secret)
    return any(hmac.compare_digest(proof_of(one, nonce), hello.proof) for one in keys)


def _is_of(origin: str, host: str | None) -> bool:
    """Say whether a page of this origin is of this host."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:  # it is no address
        return False


def _unknown() -> EndedError:
    return EndedError(Close.LATER, "tenants' records cannot be read now")
