"""Whose lines a worker takes next where several tenants have lines waiting. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant has waiting and what is being done for it, in lines, and its weight."""

    tenant: str
    waiting: int
    running: int
    weight: float = 1.0


def shares_of(waiting: Mapping[str, int], running: Mapping[str, int], weights: Mapping[str, float]) -> list[Share]:
    """Return the shares of tenants; a weight that is not named is 1."""
    return [Share(one, waiting[one], running.get(one, 0), weights.get(one, 1.0)) for one in waiting]


def divide(places: int, shares: Iterable[Share]) -> dict[str, int]:
    """Return how many of so many free places each tenant gets, in the order in which they first got one.

    One place after another goes to the tenant that would then have the fewest lines running over its weight; of equal
    ones to the first by name. So whoever has work is never kept from it by one that has more of it.
    """
    turns = [((one.running + 1) / one.weight, one.tenant, one) for one in shares if one.waiting > 0]
    heapify(turns)
    given = Counter[str]()
    while turns and given.total() < places:
        _, tenant, one = heappop(turns)
        given[tenant] += 1
        if given[tenant] < one.waiting:
            heappush(turns, ((one.running + given[tenant] + 1) / one.weight, tenant, one))
    return dict(given)
