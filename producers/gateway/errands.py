"""What a device may ask of a gateway: who serves, that a message be published, that a log be followed."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic

from redis.asyncio import Redis

from dsdq.bus.publishing import publish
from dsdq.bus.registry import Registry, WorkerInfo, pack_info
from dsdq.bus.sessions import Head, read_head
from dsdq.errors import BusyError, DsdqError, GoneError, UnavailableError, WireError
from dsdq.looking import Shared
from dsdq.versions import SPOKEN
from dsdq.wire import Cancel, Decode, Draft, Open, unpack, unpack_contract
from dsdq.wire.frames import MAX_WORKER_BYTES, Publish, Refused, RefusedCode
from dsdq.wire.limits import MAX_ARRAY
from producers.gateway.badges import Badge
from producers.gateway.logs import Cursor, Logs

FRESH_S = 0.1
CODES = (
    (GoneError, RefusedCode.GONE),
    (UnavailableError, RefusedCode.UNAVAILABLE),
    (WireError, RefusedCode.MALFORMED),
)
"""What devices are told of errors; of all others, that it is denied."""

NOT_YOURS = "expected a message of a session that this connection follows"


class NotDoneError(Exception):
    """A request is not done; ``code`` says why."""

    def __init__(self, code: RefusedCode, sentence: str) -> None:
        """Keep the code beside the sentence."""
        super().__init__(sentence)
        self.code = code


class Served:
    """Who serves, as it was a moment ago: devices that come together cost one look."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._looking = Shared(self._look)
        self._found: dict[str, list[WorkerInfo]] = {}
        self._at_s = -FRESH_S

    async def entries(self, model: str) -> tuple[bytes, ...]:
        """Return the entries of a model's workers, or of all, as far as they speak what this gateway does.

        Raises:
            BusError: the registry cannot be read.
        """
        found = await self._fresh()
        named = [found.get(model, [])] if model else found.values()
        packed = [pack_info(one) for workers in named for one in map(_spoken, workers) if one.versions]
        fitting = [one for one in packed if len(one) <= MAX_WORKER_BYTES]
        rng = random.Random(secrets.randbits(64))  # noqa: S311 - spreads load, guards nothing
        return tuple(fitting if len(fitting) <= MAX_ARRAY else rng.sample(fitting, MAX_ARRAY))

    async def names(self) -> set[str]:
        """Return the names of all workers that take sessions.

        Raises:
            BusError: the registry cannot be read.
        """
        return {one.wid for workers in (await self._fresh()).values() for one in workers}

    async def _fresh(self) -> dict[str, list[WorkerInfo]]:
        if monotonic() - self._at_s >= FRESH_S:
            await self._looking.get()
        return self._found

    async def _look(self) -> None:
        self._found = await self._registry.list_served(self._found)
        self._at_s = monotonic()


@dataclass(frozen=True, slots=True)
class Errands:
    """Does what devices ask for."""

    redis: Redis
    served: Served
    logs: Logs

    async def publish(self, badge: Badge, asked: Publish, follows: Mapping[str, Cursor]) -> None:
        """Put a message into an inbox of the device's tenant, if it is one of the device's own sessions.

        Raises:
            WireError: it is no message.
            NotDoneError: it is no device's, or of a session that is not this device's.
            BusError: it is not published.
        """
        message = unpack(asked.message)
        if isinstance(message, Open):
            contract = unpack_contract(message.contract, with_unknown=True)
            if (contract.tenant, contract.producer) != (badge.tenant, badge.producer):
                sentence = f"expected a contract of producer {badge.producer} of tenant {badge.tenant}, got another's"
                raise NotDoneError(RefusedCode.FORBIDDEN, sentence)
        elif not isinstance(message, Draft | Decode | Cancel):
            raise NotDoneError(RefusedCode.MALFORMED, f"expected a device's message, got {type(message).__name__}")
        elif (cursor := follows.get(message.session)) is None:
            raise NotDoneError(RefusedCode.FORBIDDEN, NOT_YOURS)
        elif badge.seals_with is None:  # else the worker sees by the seal whose session it is
            await self._check_owner(cursor, asked.worker)
        await publish(
            self.redis,
            asked.worker,
            badge.tenant,
            asked.message,
            producer=badge.producer,
            seal=badge.seal(message.session, asked.message, asked.mac),
            opens=isinstance(message, Open),
        )

    async def follow(self, cursor: Cursor) -> Head | None:
        """Give a cursor what is in its log, then what comes; return the log's head, None if there is none.

        Raises:
            BusError: the log cannot be read now; it is followed all the same.
        """
        has_room = True
        try:
            head = await read_head(self.redis, cursor.place)
            if head is not None:
                cursor.owner = head.worker if head.is_open else ""
                has_room = await self.logs.look(cursor)
        except GoneError:  # it has just expired
            return None
        finally:
            if has_room and cursor.live:
                self.logs.follow(cursor)
        return head

    async def _check_owner(self, cursor: Cursor, worker: str) -> None:
        """Return if a worker owns a device's own session, or may inherit it since who does has gone.

        Any other may have a sibling's session of that name.

        Raises:
            GoneError: the session is not there.
            BusError: nobody can say.
        """
        if worker == cursor.owner:
            return
        head = await read_head(self.redis, cursor.place)
        cursor.owner = head.worker if head is not None and head.is_open else ""
        if worker == cursor.owner:
            return
        if not cursor.owner or cursor.owner in await self.served.names():
            owner = cursor.owner or "nobody"
            raise GoneError(f"session {cursor.place.session}: expected its owner, which is {owner}, got {worker}")


def refusal(id_: int, error: DsdqError | NotDoneError) -> Refused:
    """Return how a device is told that a request was not done."""
    if isinstance(error, BusyError):
        return Refused(id_, RefusedCode.BUSY, str(error), error.retry_after_ms)
    if isinstance(error, NotDoneError):
        return Refused(id_, error.code, str(error))
    return Refused(id_, next((code for kind, code in CODES if isinstance(error, kind)), RefusedCode.DENIED), str(error))


def _spoken(worker: WorkerInfo) -> WorkerInfo:
    """Return a worker with those versions alone that this gateway can read too."""
    return replace(worker, versions=tuple(one for one in worker.versions if one in SPOKEN))
