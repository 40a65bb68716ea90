"""Whose work a step takes first where tenants share a verifier: the Virtual Token Counter (arXiv 2401.00588). Pure.

What tenants share is the verifier's time. Each has a counter of what it got of that, divided by its weight, and the one
with the smallest comes next; so as long as several have work waiting, none gets ahead of another, in time by weight, by
more than one step. Nobody waits while there is room in a step: what a tenant does not want goes to the others.

Time not used is not saved up. A tenant that got all that it wanted, or comes back after a pause, goes on from the least
counter of those that had to wait, or from the largest if nobody had, with a small credit: its devices draft while
others' rounds wait, and that is no pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from dsdq.policies.batching import Order, Work, first_in_first_out


@dataclass(frozen=True, slots=True)
class Prices:
    """What a row takes of a step's time, and each of its positions, in milliseconds."""

    row_ms: float = 0.0
    position_ms: float = 1.0

    def of(self, positions: int) -> float:
        """Return what a row of so many positions takes."""
        return self.row_ms + self.position_ms * positions


class FairShare:
    """Orders works by tenant, and keeps account of what each tenant got.

    ``prices`` may be set at any time, to what steps take of late; they say who comes next within a step. ``weights`` of
    tenants too, 1 for any that is not named; what they got already keeps the weight that it had.
    """

    def __init__(
        self, *, within: Order = first_in_first_out, prefill_tokens: int = 1 << 30, credit_positions: int = 0
    ) -> None:
        """Begin with nothing used.

        Args:
            within: whose work comes first within a tenant.
            prefill_tokens: what one step takes of a prompt at most.
            credit_positions: how far below the others a tenant may be that comes back.
        """
        self.prices = Prices()
        self.weights: Mapping[str, float] = {}
        self._within = within
        self._prefill_tokens = prefill_tokens
        self._credit_positions = credit_positions
        self._counters: dict[str, float] = {}
        self._kept_waiting: set[str] = set()
        self._floor = 0.0

    def weight(self, tenant: str) -> float:
        """Return a tenant's weight."""
        return self.weights.get(tenant, 1.0)

    def counter(self, tenant: str) -> float:
        """Return what a tenant got so far, in milliseconds by its weight."""
        return self._counters.get(tenant, 0.0)

    def order(self, works: Iterable[Work]) -> Sequence[Work]:
        """Return the works in the order in which a step takes them: as if each was charged for as it is taken."""
        queues: dict[str, deque[Work]] = {}
        for work in self._within(works):
            queues.setdefault(work.tenant, deque()).append(work)
        self._lift(queues)
        turns = [(self._counters[tenant], place, tenant) for place, tenant in enumerate(queues)]
        heapify(turns)
        ordered, prefill_left = list[Work](), self._prefill_tokens
        while turns:
            counter, place, tenant = heappop(turns)
            work = queues[tenant].popleft()
            ordered.append(work)
            if queues[tenant]:
                prefill = min(work.prefill, prefill_left)
                prefill_left -= prefill
                positions = prefill + (work.verify if prefill == work.prefill else 0)
                heappush(turns, (counter + self._cost(tenant, positions), place, tenant))
        return ordered

    def kept_waiting(self, tenants: Iterable[str]) -> None:
        """Take note of whose works the last step had no room for."""
        self._kept_waiting = set(tenants)

    def charge(self, tenant: str, took_ms: float) -> None:
        """Take note of what a tenant got of a step's time."""
        self._counters[tenant] = self.counter(tenant) + took_ms / self.weight(tenant)

    def crowd(self, tenant: str, waiting: Mapping[str, int]) -> float:
        """Return how many sessions share a step, as one of ``tenant`` sees it, where so many of each wait.

        A tenant has its part of the step by weight, whatever the number of its sessions: those of a crowd draft less.
        """
        weights: float = sum(self.weight(one) for one in waiting)
        return waiting[tenant] * weights / self.weight(tenant)

    def _lift(self, tenants: Iterable[str]) -> None:
        """Let nobody who was away, or had no need to wait, be further below the others than its credit."""
        present = {tenant: self._counters[tenant] for tenant in tenants if tenant in self._counters}
        waited = [counter for tenant, counter in present.items() if tenant in self._kept_waiting]
        self._floor = max(self._floor, min(waited) if waited else max(present.values(), default=self._floor))
        for tenant in tenants:
            least = self._floor - self._cost(tenant, self._credit_positions)
            self._counters[tenant] = max(self._counters.get(tenant, self._floor), least)

    def _cost(self, tenant: str, positions: int) -> float:
        return self.prices.of(positions) / self.weight(tenant)


def guaranteed(places: int, weight: float, weights: Iterable[float]) -> int:
    """Return how many of so many places a tenant of some weight may have whoever holds them; one in any case.

    Args:
        places: of all tenants.
        weight: the tenant's.
        weights: of all tenants that are there, itself among them.
    """
    return max(1, int(places * weight / sum(weights)))
