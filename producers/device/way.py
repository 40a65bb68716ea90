"""What a device asks of the service, whichever way it gets there: over Redis itself, or over a gateway's WebSocket."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from dsdq.bus.feed import Subscription
from dsdq.bus.registry import WorkerInfo
from dsdq.contract import Contract


class Way(Protocol):
    """One device's way to the service. ``where`` names it for people; who the device is, is known once it is open.

    Whatever is asked raises :class:`dsdq.errors.UnavailableError` where it may be done later, and
    :class:`dsdq.errors.DeniedError` where it never will be.
    """

    where: str

    @property
    def tenant(self) -> str:
        """Return on whose behalf the device speaks."""
        ...

    @property
    def producer(self) -> str:
        """Return the device's name."""
        ...

    async def open(self) -> None:
        """Reach the service, and see that it can be used."""
        ...

    async def prepare(self) -> None:
        """Begin to follow the device's sessions; goes on while the first verifiers are looked up."""
        ...

    async def close(self) -> None:
        """Follow nothing any more and disconnect; also a way that was never opened, or not quite."""
        ...

    async def models(self) -> list[str]:
        """Return the names of the models that have verifiers, whether or not they live."""
        ...

    async def served(self, model: str | None, expected: Collection[str]) -> dict[str, list[WorkerInfo]]:
        """Return the verifiers that take sessions, of ``model`` or of all; it is quickest where those are expected."""
        ...

    async def publish(self, worker: str, contract: Contract, request: bytes, *, opens: bool) -> None:
        """Put a request of a session into a verifier's inbox.

        Raises:
            BusyError: the inbox is full; come back after ``retry_after_ms``.
            GoneError: the verifier takes no more messages, or never existed.
        """
        ...

    def subscribe(self, contract: Contract) -> Subscription:
        """Return the messages of a session; subscribe before it opens."""
        ...

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a session and end what waits for it."""
        ...

    def look_ahead(self, subscription: Subscription, answers: int) -> None:
        """Know that so many answers of a session are awaited."""
        ...

    async def catch_up(self, subscription: Subscription) -> bool:
        """Read on in the session's log; say whether there was something new.

        Raises:
            GoneError: there is no log any more.
        """
        ...

    async def owner(self, subscription: Subscription) -> str | None:
        """Return the verifier that owns a session now, None if none does."""
        ...
