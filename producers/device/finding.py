"""Find a verifier for a new session: of the right model, that speaks a version which this device speaks."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, replace
from time import monotonic
from typing import cast

from dsdq.bus.registry import WorkerInfo
from dsdq.errors import ConfigError, NoVerifierError, UnavailableError
from dsdq.policies.routing import Loaded, Policy
from dsdq.versions import SPOKEN, agreed
from producers.device.way import Way

POLL_S = 0.1
CHOICE_S = 0.25  # a heartbeat: so much older may loads be that are compared, than they are in the registry
ALONE_S = 2.0  # where nothing is compared: as long as a lease lasts that is not renewed


@dataclass(frozen=True, slots=True)
class Found:
    """A verifier, and the version to open a session with: all verifiers of its model speak it, so any may inherit.

    ``round_trip_ms`` is what it takes to ask the service for something, at least.
    """

    worker: WorkerInfo
    version: int
    round_trip_ms: float


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the registry showed when it was asked at ``at_s`` (monotonic seconds)."""

    workers: list[WorkerInfo]
    at_s: float

    def is_young(self, now_s: float) -> bool:
        """Say whether a session may still be opened by this. What showed nobody never is."""
        return bool(self.workers) and now_s - self.at_s < (ALONE_S if len(self.workers) == 1 else CHOICE_S)


class Directory:
    """The verifiers of a service as the registry showed them of late. All generations of a client share one.

    Sessions that were sent somewhere since then count there: many that begin at once do not herd. ``round_trip_ms`` is
    the least that asking took.
    """

    def __init__(self, way: Way) -> None:
        self.round_trip_ms = math.inf
        self._way = way
        self._asking = asyncio.Lock()
        self._shown: dict[str | None, _Shown] = {}  # by model; None: of all models
        self._sent: Counter[str] = Counter()
        self._doubted_s = -math.inf

    async def workers(self, model: str | None, *, anew: bool = False) -> list[WorkerInfo]:
        """Return the verifiers of ``model``, or of all models; those seen last if that was not long ago.

        ``anew`` asks in any case. Who asks while another does gets the same answer.
        """
        asked_s = monotonic()
        if anew:
            self._doubted_s = asked_s
        async with self._asking:
            shown = self._shown.get(model)
            if shown is None or shown.at_s < self._doubted_s or not shown.is_young(asked_s):
                shown = await self._look(model)
        return [replace(one, sessions=one.sessions + self._sent[one.wid]) for one in shown.workers]

    def doubt(self) -> None:
        """Rely on nothing that was seen so far: it proved wrong."""
        self._doubted_s = monotonic()

    def sent(self, wid: str) -> None:
        """Take note that a session is about to be opened at a verifier."""
        self._sent[wid] += 1

    async def _look(self, model: str | None) -> _Shown:
        expected = {name for name in self._shown if name is not None}
        if model is None and not expected:
            expected.update(await self._way.models())
        at_s = monotonic()
        served = await self._way.served(model, expected)
        self.round_trip_ms = min(self.round_trip_ms, 1000 * (monotonic() - at_s))
        everybody = [worker for workers in served.values() for worker in workers]
        for worker in everybody:
            del self._sent[worker.wid]
        self._shown |= {name: _Shown(workers, at_s) for name, workers in served.items()}
        shown = self._shown[model] = _Shown(everybody, at_s)
        return shown


class Finder:
    """Asks the directory; waits ``patience_ms`` for a verifier to appear, ``outage_ms`` for a way to it."""

    def __init__(
        self, directory: Directory, route: Policy[Loaded], *, where: str, patience_ms: float, outage_ms: float
    ) -> None:
        self._directory = directory
        self._route = route
        self._where = where
        self._patience_ms = patience_ms
        self._outage_ms = outage_ms

    async def find(
        self, model: str | None, beginning: bytes, version: int | None = None, *, anew: bool = False
    ) -> Found:
        """Return a verifier of ``model`` (or of the only model served), one that speaks ``version`` if that is given.

        ``anew`` relies on nothing that was seen before.

        Raises:
            NoVerifierError: there is none.
            ConfigError: several models are served and none was named.
        """
        for attempt in range(max(1, round(self._patience_ms / 1000 / POLL_S))):
            workers = await self._list(model, anew=anew or attempt > 0)
            served = sorted({worker.model for worker in workers})
            if len(served) > 1:
                msg = f"expected a model's name, since several are served: {', '.join(served)}"
                raise ConfigError(msg)
            if (found := self._choose(workers, beginning, version)) is not None:
                self._directory.sent(found.worker.wid)
                return found
            await asyncio.sleep(POLL_S)
        wanted = f"a verifier of {model}" if model else "a verifier"
        spoken = ", ".join(map(str, SPOKEN if version is None else (version,)))
        msg = (
            f"expected {wanted} that speaks version {spoken} of the protocol at {self._where}, found none; "
            "start one with `dsdq verifier`"
        )
        raise NoVerifierError(msg)

    def _choose(self, workers: list[WorkerInfo], beginning: bytes, version: int | None) -> Found | None:
        wanted = agreed(worker.versions for worker in workers) if version is None else version
        able = [one for one in workers if (agreed([one.versions]) if wanted is None else wanted in one.versions)]
        if not able:
            return None
        worker = cast("WorkerInfo", self._route(able, beginning))
        chosen = agreed([worker.versions]) if wanted is None else wanted
        return None if chosen is None else Found(worker, chosen, self._directory.round_trip_ms)

    async def _list(self, model: str | None, *, anew: bool) -> list[WorkerInfo]:
        """Return the verifiers of ``model``, or of all models; wait while nothing answers: it did at first."""
        began_s = monotonic()
        while True:
            try:
                return await self._directory.workers(model, anew=anew)
            except UnavailableError:
                if 1000 * (monotonic() - began_s) >= self._outage_ms:
                    raise
                await asyncio.sleep(POLL_S)
