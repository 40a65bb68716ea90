"""What a whole service does at the moment, from two readings of its verifiers' figures. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from dsdq.telemetry.figures import Snapshot


@dataclass(frozen=True, slots=True)
class Change:
    """What happened between two snapshots of a verifier, ``seconds`` apart by its own clock."""

    seconds: float = 0.0
    generated: int = 0
    drafted: int = 0
    accepted: int = 0
    steps: int = 0
    rows: int = 0

    @classmethod
    def between(cls, before: Snapshot, after: Snapshot) -> Self:
        """Return what the later one has more."""
        return cls(
            after.uptime_s - before.uptime_s,
            after.generated - before.generated,
            after.drafted - before.drafted,
            after.accepted - before.accepted,
            after.steps - before.steps,
            after.rows - before.rows,
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast it went, None where nothing says so: of a verifier that has just come, of drafts where none were."""

    tokens_per_s: float | None = None
    steps_per_s: float | None = None
    acceptance: float | None = None
    rows_per_step: float | None = None

    @classmethod
    def of(cls, changes: Sequence[Change]) -> Self:
        """Return those of some verifiers together."""
        changes = [one for one in changes if one.seconds > 0]
        drafted, steps = sum(one.drafted for one in changes), sum(one.steps for one in changes)
        return cls(
            tokens_per_s=sum(one.generated / one.seconds for one in changes) if changes else None,
            steps_per_s=sum(one.steps / one.seconds for one in changes) if changes else None,
            acceptance=sum(one.accepted for one in changes) / drafted if drafted else None,
            rows_per_step=sum(one.rows for one in changes) / steps if steps else None,
        )


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One verifier; ``age_s`` ago it said so."""

    worker: str
    model: str
    sessions: int
    slots: int
    waiting: int
    kv_usage: float
    age_s: float
    rates: Rates


@dataclass(frozen=True, slots=True)
class TenantView:
    """One tenant at all verifiers."""

    tenant: str
    sessions: int = 0
    tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Overview:
    """A service. Takeovers and refusals are those of its present verifiers' processes since they began."""

    workers: tuple[WorkerView, ...] = ()
    silent: tuple[str, ...] = ()
    tenants: tuple[TenantView, ...] = ()
    sessions: int = 0
    waiting: int = 0
    takeovers: int = 0
    refusals: tuple[tuple[str, int], ...] = ()
    rates: Rates = Rates()

    @classmethod
    def between(cls, before: Iterable[Snapshot], after: Sequence[Snapshot], silent: Sequence[str] = ()) -> Self:
        """Return what ``after`` shows, and how fast it went since ``before``.

        A verifier that is only in one of them came or left: of one that came no rates are known, one that left is not
        there. Others serve too, but are ``silent``.
        """
        earlier = {one.worker: one for one in before}
        changes = {one.worker: Change.between(earlier[one.worker], one) for one in after if one.worker in earlier}
        refusals = sum((Counter(one.refusals) for one in after), Counter[str]())
        return cls(
            workers=tuple(_worker(one, changes.get(one.worker, Change())) for one in after),
            silent=tuple(silent),
            tenants=_tenants(earlier, after),
            sessions=sum(one.running for one in after),
            waiting=sum(one.waiting for one in after),
            takeovers=sum(one.takeovers for one in after),
            refusals=tuple(sorted(refusals.items())),
            rates=Rates.of(list(changes.values())),
        )

    @property
    def verifiers(self) -> int:
        """Return how many serve."""
        return len(self.workers) + len(self.silent)

    def document(self) -> dict[str, object]:
        """Return all of it as JSON can carry it, for who may see everything."""
        return {
            **self._totals(),
            "takeovers": self.takeovers,
            "refusals": dict(self.refusals),
            "silent": list(self.silent),
            "tenants": [asdict(one) for one in self.tenants],
        }

    def document_for(self, tenant: str) -> dict[str, object]:
        """Return what one tenant may see: totals, verifiers, and of all tenants itself."""
        own = next((one for one in self.tenants if one.tenant == tenant), TenantView(tenant))
        return {**self._totals(), "tenant": asdict(own)}

    def _totals(self) -> dict[str, object]:
        return {
            "verifiers": self.verifiers,
            "sessions": self.sessions,
            "waiting": self.waiting,
            **asdict(self.rates),
            "workers": [_flat(one) for one in self.workers],
        }


class Trail:
    """Remembers of each verifier the last two snapshots that differ: who reads more often than they write sees both."""

    def __init__(self) -> None:
        self._pairs: dict[str, tuple[Snapshot | None, Snapshot]] = {}

    @property
    def complete(self) -> bool:
        """Say whether the rates of every verifier are known."""
        return all(before is not None for before, _ in self._pairs.values())

    def add(self, snapshots: Iterable[Snapshot], silent: Sequence[str] = ()) -> Overview:
        """Take in a reading; return the overview since the one before."""
        self._pairs = {one.worker: self._pair(one) for one in snapshots}
        before = [earlier for earlier, _ in self._pairs.values() if earlier is not None]
        return Overview.between(before, [later for _, later in self._pairs.values()], silent)

    def _pair(self, now: Snapshot) -> tuple[Snapshot | None, Snapshot]:
        if now.worker not in self._pairs:
            return None, now
        before, last = self._pairs[now.worker]
        return (before if last.uptime_s == now.uptime_s else last), now


def _worker(one: Snapshot, change: Change) -> WorkerView:
    rates = Rates.of([change])
    return WorkerView(one.worker, one.model, one.running, one.slots, one.waiting, one.kv_usage, one.age_s, rates)


def _flat(one: WorkerView) -> dict[str, object]:
    facts = asdict(one)
    rates: dict[str, object] = facts.pop("rates")
    return facts | rates


def _tenants(earlier: dict[str, Snapshot], after: Sequence[Snapshot]) -> tuple[TenantView, ...]:
    """Return the tenants that have sessions or got tokens, the fastest first."""
    sessions = sum((Counter(one.tenant_sessions) for one in after), Counter[str]())
    speeds = defaultdict[str, float](float)
    for one in after:
        before = earlier.get(one.worker)
        if before is not None and one.uptime_s > before.uptime_s:
            for tenant, tokens in one.tenants.items():
                speeds[tenant] += (tokens - before.tenants.get(tenant, 0)) / (one.uptime_s - before.uptime_s)
    names = {name for name, count in (*sessions.items(), *speeds.items()) if count}
    views = [TenantView(name, sessions[name], speeds[name]) for name in names]
    return tuple(sorted(views, key=lambda one: (-one.tokens_per_s, one.tenant)))
