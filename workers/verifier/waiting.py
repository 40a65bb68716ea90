"""Who waits for a place: first come first served within a tenant, one tenant after the other. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from dsdq.bus.inbox import Entry
from dsdq.contract import Contract
from dsdq.policies.places import turns
from dsdq.wire import Open


@dataclass(frozen=True, slots=True)
class Waiting:
    """An ``open`` that was found good, and the inbox entry that it stays in until it has its place."""

    entry: Entry
    message: Open
    contract: Contract


class WaitingRoom:
    """Opens that wait. A tenant with many of them delays its own, not another's."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Waiting]] = {}

    def __iter__(self) -> Iterator[Waiting]:
        """Give all who wait."""
        return (one for queue in self._queues.values() for one in queue)

    def add(self, waiting: Waiting) -> bool:
        """Take one in; False if the session waits already."""
        if self.find(waiting.contract.session, waiting.contract.tenant) is not None:
            return False
        self._queues.setdefault(waiting.contract.tenant, deque()).append(waiting)
        return True

    def count(self, tenant: str) -> int:
        """Return how many of a tenant's opens wait."""
        return len(self._queues.get(tenant, ()))

    def turns(self, tenant: str) -> int:
        """Return how many places have to become free until a tenant's next open, were it to come now, had one."""
        return turns(self.count(tenant), (len(queue) for whose, queue in self._queues.items() if whose != tenant))

    def find(self, session: str, tenant: str) -> Waiting | None:
        """Return the open of a tenant's session if it waits."""
        return next((one for one in self._queues.get(tenant, ()) if one.contract.session == session), None)

    @property
    def tenants(self) -> Collection[str]:
        """Return the tenants that have opens here."""
        return self._queues.keys()

    def first(self, has_place: Callable[[str], bool]) -> Waiting | None:
        """Return whose turn it is, of the tenants for whom there is a place."""
        return next((queue[0] for tenant, queue in self._queues.items() if has_place(tenant)), None)

    def remove(self, waiting: Waiting) -> None:
        """Let one go; its tenant's next turn comes after those of all others."""
        tenant = waiting.contract.tenant
        queue = self._queues.pop(tenant)
        queue.remove(waiting)
        if queue:
            self._queues[tenant] = queue
