"""Who has a place at a verifier, when one becomes free, and when to come back where that takes too long. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from dsdq.policies.fairness import guaranteed

RECENT = 0.1  # weight of the newest session in the moving average
LEAST_RETRY_MS = 5
RETRIED = 4  # who is refused comes back when so many-th of those who may wait have got their places


@dataclass(slots=True)
class Places:
    """The places of a verifier: ``slots``, and while others wait those of ``quiet`` sessions, whose devices are silent.

    A quiet session stays as it is and goes on when its device does; it only costs nobody a place. There are never more
    sessions than three times the slots: those that have one, as many that lent theirs, and as many that a tenant's part
    entitles it to.
    """

    slots: int
    quiet: set[str] = field(default_factory=set)

    def free(self, held: int) -> int:
        """Return how many more sessions have a place, whoever's they are, beside so many."""
        return max(min(self.slots + len(self.quiet), 2 * self.slots) - held, 0)

    def has(self, tenant: str, holders: Collection[str], waiting: Iterable[str], weigh: Callable[[str], float]) -> bool:
        """Say whether one more session of a tenant has a place; ``holders`` are the tenants of those that there are.

        Fewer than are the tenant's by weight have one, up to as many more as there are: else one that has all places
        would keep them from the others for as long as its sessions last.
        """
        if self.free(len(holders)):
            return True
        if len(holders) >= min(2 * self.slots + len(self.quiet), 3 * self.slots):
            return False
        places = Counter(holders)
        return places[tenant] < guaranteed(self.slots, weigh(tenant), map(weigh, {tenant, *places, *waiting}))


@dataclass(slots=True)
class Turnover:
    """How fast ``slots`` places become free where all are taken: each as often as a session ends (Little's law).

    ``lasted_s`` is how long sessions lasted of late, None before the first has ended.
    """

    slots: int
    lasted_s: float | None = field(default=None, init=False)

    def ended(self, lasted_s: float) -> None:
        """Take note of a session that has given its place back."""
        mean_s = lasted_s if self.lasted_s is None else self.lasted_s
        self.lasted_s = mean_s + RECENT * (lasted_s - mean_s)

    def place_ms(self, ages_s: Collection[float]) -> float:
        """Return in how many milliseconds one place becomes free; 0 while nothing is known.

        ``ages_s`` are those of the present sessions: where they have lasted longer already than sessions did of late,
        no end is near.
        """
        if self.lasted_s is None or not ages_s:
            return 0.0
        return 1000 * max(self.lasted_s, sum(ages_s) / len(ages_s)) / self.slots


def turns(mine: int, others: Iterable[int]) -> int:
    """Return how many places have to become free until a tenant's next open has one; tenants take turns.

    Args:
        mine: opens of the tenant that wait already.
        others: of each other tenant.
    """
    return mine + 1 + sum(min(other, mine + 1) for other in others)


def full_ms(bound: int, drained_per_s: float) -> float:
    """Return when to come back where an inbox of ``bound`` entries is full: when a sixteenth of it is drained.

    What live inboxes say (``dsdq/bus/lua/publish.lua``).
    """
    return min(max(1000 * max(1.0, bound / 16) / max(1.0, drained_per_s), 5.0), 5000.0)


def refusal_ms(turns: int, place_ms: float, longest_ms: float) -> int:
    """Return after how many milliseconds to come back, for an open that would wait ``longest_ms`` or more; else 0.

    It is whole places that are waited for, so one may always wait for the next.
    """
    if turns <= 1 or turns * place_ms <= longest_ms:
        return 0
    return max(LEAST_RETRY_MS, round(max(place_ms, longest_ms / RETRIED)))
