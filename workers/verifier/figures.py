"""What a verifier's process counts: plain numbers and lists of fixed length, so that counting costs a step nothing.

Counted and looked at on the event loop only; another thread sees :attr:`Figures.last`, which never changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from time import monotonic

from dsdq.bus.registry import WorkerInfo
from dsdq.contract import MAX_WINDOW, FinishReason
from dsdq.telemetry.figures import (
    FAILED,
    MOST_TENANTS,
    OTHERS,
    ROW_BOUNDS,
    SECOND_BOUNDS,
    Histogram,
    Snapshot,
)
from dsdq.wire import Closed, Error, ErrorCode, Verdict
from workers.engine.planner import Planner
from workers.engine.rows import Row
from workers.verifier.held import Held


class Figures:
    """The counters of one process, whichever verifiers live in it one after the other.

    Until ``alive_until_s`` (monotonic) the present one's lease is good, as far as it knows; ``last`` is what it last
    said of itself.
    """

    def __init__(self) -> None:
        self.alive_until_s = 0.0
        self.last: Snapshot | None = None
        self.prompt = 0
        self.takeovers = 0
        self._since_s = monotonic()
        self._generated = self._drafts = self._drafted = self._accepted = 0
        self._accepted_rounds = [0] * (MAX_WINDOW + 1)
        self._positions = 0
        self._planner: Planner | None = None
        self._evictions = self._earlier_evictions = 0  # by the present planner, by those before
        self._rows, self._seconds = Histogram(ROW_BOUNDS), Histogram(SECOND_BOUNDS)
        self._ended = dict.fromkeys([*map(str, FinishReason), FAILED], 0)
        self._refusals = dict.fromkeys(map(str, ErrorCode), 0)
        self._tenants: dict[str, int] = {}

    def serves(self) -> bool:
        """Say whether the present verifier's lease is good."""
        return monotonic() < self.alive_until_s

    def decided(self, verdicts: Iterable[tuple[str, Verdict]]) -> None:
        """Count a step's verdicts, each with whose it is."""
        for tenant, verdict in verdicts:
            tokens = len(verdict.tokens)
            self._generated += tokens
            if verdict.drafted:
                self._drafts += 1
                self._drafted += verdict.drafted
                self._accepted += verdict.accepted
                self._accepted_rounds[verdict.accepted] += 1
            self._tenants[self._named(tenant)] += tokens

    def stepped(self, rows: Sequence[Row], took_s: float) -> None:
        """Count a step."""
        self._rows.add(len(rows))
        self._positions += sum([len(row.tokens) for row in rows])
        self._seconds.add(took_s)

    def ended(self, message: Closed | Error) -> None:
        """Count the end of a session by its last message."""
        self._ended[message.reason if isinstance(message, Closed) else FAILED] += 1

    def refused(self, code: str) -> None:
        """Count an ``open`` that was refused."""
        self._refusals[code] = self._refusals.get(code, 0) + 1

    def take(self, info: WorkerInfo, planner: Planner, held: Sequence[Held], waiting: int, ttl_ms: int) -> Snapshot:
        """Return all figures as they are now, with what the present verifier holds; ``last`` has them too."""
        if planner is not self._planner:  # a verifier that began anew has one of its own
            self._earlier_evictions += self._evictions
        self._planner, self._evictions = planner, planner.evictions
        sessions = dict(Counter(self._named(one.tenant) for one in held))  # first: it may name a tenant
        self.last = Snapshot(
            worker=info.wid,
            model=info.model,
            uptime_s=monotonic() - self._since_s,
            ttl_ms=ttl_ms,
            slots=info.slots,
            running=len(held),
            waiting=waiting,
            rounds=sum(len(one.pending) for one in held),
            kv_blocks=planner.paging.blocks,
            kv_held=planner.paging.held,
            generated=self._generated,
            prompt=self.prompt,
            drafts=self._drafts,
            drafted=self._drafted,
            accepted=self._accepted,
            accepted_rounds=tuple(self._accepted_rounds),
            steps=sum(self._rows.counts),
            rows=int(self._rows.sum),
            positions=self._positions,
            step_s=self._seconds.sum,
            row_counts=tuple(self._rows.counts),
            second_counts=tuple(self._seconds.counts),
            preemptions=self._earlier_evictions + self._evictions,
            takeovers=self.takeovers,
            ended=dict(self._ended),
            refusals={code: count for code, count in self._refusals.items() if count},
            tenants=dict(self._tenants),
            tenant_sessions=sessions,
        )
        return self.last

    def _named(self, tenant: str) -> str:
        """Return the name under which a tenant is counted."""
        if tenant not in self._tenants:
            tenant = tenant if len(self._tenants) < MOST_TENANTS else OTHERS
            self._tenants.setdefault(tenant, 0)
        return tenant
