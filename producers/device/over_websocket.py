"""A device that must not reach Redis: it speaks with a gateway, which passes its messages on and reads its logs."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Collection
from typing import cast
from urllib.parse import urlsplit, urlunsplit

from dsdq.bus.feed import Subscription
from dsdq.bus.registry import WorkerInfo, readable_infos
from dsdq.bus.sessions import LogEntry
from dsdq.contract import Contract
from dsdq.errors import BusError, ConfigError, GoneError, SealError
from dsdq.sealing import name_made_of, proof_of
from dsdq.settings import Settings, settings
from dsdq.tasks import end_all_of, start_for
from dsdq.tenants.records import DEFAULT_TENANT
from dsdq.wire.frames import (
    PATH,
    SECRET_BYTES,
    AskWorkers,
    Entry,
    Follow,
    Followed,
    Hello,
    Publish,
    Unfollow,
    Welcome,
    Workers,
)
from producers.device.client import DeviceClient
from producers.device.line import Line
from producers.device.models import Models
from producers.device.sealer import Sealer


class Identity:
    """Who a device is to gateways: named by the settings and shown by its key, or named after a secret of its own."""

    def __init__(self, chosen: Settings, producer: str | None = None) -> None:
        self._secret = b""
        self._key = None if chosen.producer_key is None else chosen.producer_key.get_secret_value()
        if self._key is not None:
            self.sealer = Sealer.of(chosen, producer)
            return
        self._secret = secrets.token_bytes(SECRET_BYTES)
        label = producer or chosen.producer or "device"
        try:
            self.sealer = Sealer(name_made_of(self._secret, label))
        except SealError as error:
            raise ConfigError(f"producer {label!r}: expected a shorter name for a device without a key") from error

    def hello(self, nonce: bytes, api_key: str) -> Hello:
        """Return what shows who this is, to a gateway that has asked with ``nonce``."""
        proof = b"" if self._key is None else proof_of(self._key, nonce)
        return Hello(self.sealer.producer, key=api_key, secret=self._secret, proof=proof)


class WebSocketWay:
    """See :class:`producers.device.way.Way`."""

    def __init__(self, url: str, tenant: str, api_key: str, identity: Identity) -> None:
        self.where = address = _address(url)
        self._wanted, self._identity = tenant, identity
        self._subscriptions: dict[str, Subscription] = {}
        # In the first frame too it could go; a header is what proxies know to keep to themselves.
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        rng = random.Random(secrets.randbits(64))  # noqa: S311 - scatters pauses, guards nothing
        self._line = Line(address, headers, self, rng)

    @property
    def tenant(self) -> str:
        """Return whose API key it is that was shown."""
        return self._welcome.tenant

    @property
    def producer(self) -> str:
        """See :class:`producers.device.way.Way`."""
        return self._identity.sealer.producer

    async def open(self) -> None:
        """Connect, and say who this is."""
        await self._line.open()
        if self._wanted not in (DEFAULT_TENANT, self.tenant):
            raise ConfigError(f"tenant: expected {self._wanted}, the API key is one of {self.tenant}")

    async def prepare(self) -> None:
        """Do nothing: sessions are followed one by one."""

    async def close(self) -> None:
        """See :class:`producers.device.way.Way`."""
        await end_all_of(self)
        await self._line.close()

    async def models(self) -> list[str]:
        """Expect no models: a gateway tells of all at once."""
        return []

    async def served(self, model: str | None, expected: Collection[str]) -> dict[str, list[WorkerInfo]]:
        """See :class:`producers.device.way.Way`."""
        del expected
        answer = cast("Workers", await self._line.ask(lambda id_: AskWorkers(id_, model or "")))
        found = dict[str, list[WorkerInfo]]() if model is None else {model: []}
        for info in readable_infos(answer.entries):
            found.setdefault(info.model, []).append(info)
        return found

    async def publish(self, worker: str, contract: Contract, request: bytes, *, opens: bool) -> None:
        """See :class:`producers.device.way.Way`."""
        del opens  # the gateway reads it from the message
        if len(request) > self._welcome.message_bytes:
            most = self._welcome.message_bytes
            raise ConfigError(f"expected a request of at most {most} bytes for this gateway, got {len(request)}")
        seal = self._identity.sealer.seal(contract.session, request)
        mac = b"" if seal is None else seal.mac
        await self._line.ask(lambda id_: Publish(id_, worker, request, mac))

    def subscribe(self, contract: Contract) -> Subscription:
        """See :class:`producers.device.way.Way`."""
        if len(self._subscriptions) >= self._welcome.sessions:
            raise ConfigError(f"expected at most {self._welcome.sessions} sessions at once over this gateway, got more")
        subscription = self._subscriptions[contract.session] = Subscription(contract)
        start_for(self, self._begin(subscription))
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """See :class:`producers.device.way.Way`."""
        subscription.close()
        session = subscription.contract.session
        if self._subscriptions.pop(session, None) is not None:
            start_for(self, self._line.tell(Unfollow(session)))

    def look_ahead(self, subscription: Subscription, answers: int) -> None:
        """Do nothing: what comes is pushed, and waits for no read."""

    async def catch_up(self, subscription: Subscription) -> bool:
        """See :class:`producers.device.way.Way`."""
        before = subscription.epoch, subscription.seen
        followed = await self._follow(subscription)
        if before[1] and not followed.epoch:
            session = subscription.contract.session
            raise GoneError(f"session {session}: expected its log, it is gone; nothing came for too long")
        return (subscription.epoch, subscription.seen) > before

    async def owner(self, subscription: Subscription) -> str | None:
        """See :class:`producers.device.way.Way`."""
        return (await self._follow(subscription)).owner or None

    # What the line asks of it

    def greet(self, nonce: bytes) -> Hello:
        """Say who this is."""
        return self._identity.hello(nonce, "")

    def resume(self) -> None:
        """Follow on in every session from where it was."""
        for subscription in self._subscriptions.values():
            start_for(self, self._begin(subscription))

    def hear(self, entry: Entry) -> None:
        """Hand an entry to its session."""
        subscription = self._subscriptions.get(entry.session)
        if subscription is not None:
            subscription.take(LogEntry(entry.number, entry.epoch, entry.message))

    def hang_up(self) -> None:
        """Let no session wait any more."""
        for subscription in self._subscriptions.values():
            subscription.close()

    @property
    def _welcome(self) -> Welcome:
        if self._line.welcome is None:
            raise ConfigError("expected a device that has connected")
        return self._line.welcome

    async def _begin(self, subscription: Subscription) -> None:
        """Have a session followed; what fails is tried again by whoever misses its messages."""
        with contextlib.suppress(BusError):
            await self._follow(subscription)
        session = subscription.contract.session
        if session not in self._subscriptions:  # it ended before this was sent: nobody else would say so
            await self._line.tell(Unfollow(session))

    async def _follow(self, subscription: Subscription) -> Followed:
        return cast("Followed", await self._line.ask(lambda id_: _following(id_, subscription)))


class WebSocketClient(DeviceClient):
    """A client that speaks with a gateway; see :class:`dsdq.client.Client`."""

    def __init__(
        self,
        url: str,
        *,
        tenant: str = DEFAULT_TENANT,
        key: str | None = None,
        producer: str | None = None,
        models: Models | None = None,
    ) -> None:
        """Speak for the tenant whose API key ``key`` is, or the settings' one: named ``producer``, or as they say."""
        chosen = settings()
        given = key or ("" if chosen.api_key is None else chosen.api_key.get_secret_value())
        super().__init__(WebSocketWay(url, tenant, given, Identity(chosen, producer)), chosen, models)


def _following(id_: int, subscription: Subscription) -> Follow:
    return Follow(id_, subscription.contract.session, subscription.seen, subscription.epoch)


def _address(url: str) -> str:
    """Return the URL with the path that a gateway listens at, unless it names one."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None:
        raise ConfigError("expected a gateway as ws://HOST:PORT or wss://HOST, and its key as DSDQ_API_KEY, got others")
    return urlunsplit(parts if parts.path.strip("/") else parts._replace(path=PATH))
