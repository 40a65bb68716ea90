"""Who waits for a place at a verifier: first come, first served within a tenant, one tenant after the other.

Who has one is for :class:`dsdq.policies.places.Places` to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from dsdq.policies.places import turns
from dsdq.sim.held import Held


class WaitingRoom:
    """Sessions that wait for one of a verifier's places; a tenant has at most ``bound`` of them."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._queues: dict[str, deque[Held]] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._queues.values()))

    def add(self, held: Held) -> bool:
        """Let a session wait; False where its tenant's inbox is full."""
        queue = self._queues.setdefault(held.tenant, deque())
        if len(queue) >= self._bound:
            return False
        queue.append(held)
        return True

    @property
    def tenants(self) -> Collection[str]:
        """Return whose sessions wait."""
        return self._queues.keys()

    def turns(self, tenant: str) -> int:
        """Return how many places have to become free until one more session of a tenant, were it to wait, had one."""
        mine = len(self._queues.get(tenant, ()))
        return turns(mine, (len(queue) for whose, queue in self._queues.items() if whose != tenant))

    def next(self, has_place: Callable[[str], bool]) -> Held | None:
        """Take out whose turn it is, of those that have not ended and for whose tenant there is a place; or None."""
        for tenant in list(self._queues):
            queue = self._queues[tenant]
            while queue and queue[0].ended:
                queue.popleft()
            if queue and not has_place(tenant):
                continue
            del self._queues[tenant]
            if queue:
                held = queue.popleft()
                if queue:
                    self._queues[tenant] = queue  # its next turn comes after those of all others
                return held
        return None

    def clear(self) -> list[Held]:
        """Take everybody out."""
        waiting = [held for queue in self._queues.values() for held in queue if not held.ended]
        self._queues.clear()
        return waiting
