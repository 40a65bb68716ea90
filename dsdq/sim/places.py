"""Who waits for a place at a verifier: first come, first served within a tenant, one tenant after the other."""

from __future__ import annotations

from collections import deque

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

    def next(self) -> Held | None:
        """Take out whose turn it is, of those that have not ended; None if nobody waits."""
        while self._queues:
            tenant = next(iter(self._queues))
            queue = self._queues.pop(tenant)
            held = queue.popleft() if queue else None
            if queue:
                self._queues[tenant] = queue
            if held is not None and not held.ended:
                return held
        return None

    def clear(self) -> list[Held]:
        """Take everybody out."""
        waiting = [held for queue in self._queues.values() for held in queue if not held.ended]
        self._queues.clear()
        return waiting
