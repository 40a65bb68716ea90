"""A verifier: who is ready goes into a step, in the order and within the bounds that the live policies say."""

from __future__ import annotations

from collections import Counter
from random import Random

from dsdq.policies.batching import ORDERS, ROOM_S, Residency, StepBudget, Tenure, fill
from dsdq.policies.fairness import FairShare
from dsdq.policies.paging import BLOCK, Paging
from dsdq.policies.places import Places, Turnover, full_ms, refusal_ms
from dsdq.policies.routing import moving_row_ms
from dsdq.policies.steering import NO_DRAFTS, OwnDraft, Steering
from dsdq.sim.costs import StepTimes
from dsdq.sim.held import Held, Round
from dsdq.sim.kernel import Kernel
from dsdq.sim.messages import Opened, Request
from dsdq.sim.places import WaitingRoom
from dsdq.sim.record import Record
from dsdq.sim.scenario.model import Scenario
from dsdq.sim.step import Step, judge


class Verifier:
    """One verifier, until it fails; ``luck`` is how long its steps take.

    ``sessions``, ``slots`` and ``row_ms`` are what its registry entry says.
    """

    def __init__(self, wid: str, kernel: Kernel, scenario: Scenario, record: Record, luck: Random) -> None:
        figures = scenario.verifiers
        self.wid, self.slots, self.row_ms = wid, figures.slots, 0.0
        self.held: dict[str, Held] = {}
        self.waiting = WaitingRoom(scenario.broker.inbox_bound)
        self.alive = True
        self._kernel, self._record, self._times = kernel, record, StepTimes(figures)
        self._budget = StepBudget(figures.step_tokens, figures.prefill_tokens)
        self._between_ms, self._luck = figures.between_ms, luck
        self._places, self._turnover = Places(figures.slots), Turnover(figures.slots)
        self._place_wait_ms, self._inbox_bound = figures.place_wait_ms, scenario.broker.inbox_bound
        self._settled = 0  # rounds that were answered
        self._paging = Paging(figures.kv_tokens // BLOCK, shares=False)
        self._tenure, self._used_s = Tenure(), dict[str, float]()
        self._fair = FairShare(
            within=ORDERS[scenario.batching.order],
            prefill_tokens=figures.prefill_tokens,
            credit_positions=figures.step_tokens,
        )
        self._fair.weights = {name: tenant.weight for name, tenant in scenario.tenants.items()}
        self._shared = len(scenario.tenants) > 1
        # A tenant that has nobody beside it has its works in that order, whatever it got so far.
        self._order = self._fair.order if self._shared else ORDERS[scenario.batching.order]
        self._steering = Steering(figures.step_tokens, brief=False)
        self._steers, self._lingers = scenario.window.steered, scenario.batching.lingers
        self._agreed = scenario.window.max_window
        # What steps and drafts come to is kept account of where somebody goes by that.
        several = scenario.window.max_depth > 1
        self._drafts = scenario.drafts_at_verifiers
        self._accounts = self._steers or self._lingers or self._shared or several or self._drafts
        self._ready: dict[str, Held] = {}
        self._busy, self._idle_since_ms, self._idle_ms = False, 0.0, 0.0
        self._turn, self._lingering, self._awaited = 0, False, set[str]()

    @property
    def sessions(self) -> int:
        """Return how many sessions it holds."""
        return len(self.held)

    def open(self, held: Held) -> float:
        """Take a session in, or let it wait for a place, and return 0.

        Or return in how many milliseconds to come back: that place is too long to wait for, or its tenant has too many
        sessions that wait.
        """
        tenant = held.tenant
        if tenant not in self.waiting.tenants and self._has_place(tenant):
            self.admit(held)
            return 0.0
        now_ms = self._kernel.now_ms
        place_ms = self._turnover.place_ms([(now_ms - one.opened_ms) / 1000 for one in self.held.values()])
        if later_ms := refusal_ms(self.waiting.turns(tenant), place_ms, self._place_wait_ms):
            return later_ms
        return 0.0 if self.waiting.add(held) else full_ms(self._inbox_bound, self._settled / max(now_ms / 1000, 1e-3))

    def _has_place(self, tenant: str) -> bool:
        """Say whether one more session of a tenant has a place; its part of them is its own."""
        if len(self.held) < self.slots:
            return True
        holders = [held.tenant for held in self.held.values()]
        return self._shared and self._places.has(tenant, holders, self.waiting.tenants, self._fair.weight)

    def admit(self, held: Held) -> None:
        """Give a session a place and say so; what waits of it, or is not fed, is ready."""
        self.held[held.key] = held
        self._paging.admit(held.key, "")
        held.verifier, held.holding = self, self._paging[held.key]
        now_ms = self._kernel.now_ms
        held.fed, held.opened_ms, held.since_ms, held.kept_ms = not held.unfed, now_ms, now_ms, now_ms
        for window in held.pending:  # as live, it is received when there is a place for it
            window.arrived_ms = now_ms
        held.answer(Opened(self._agreed))
        self._offer(held)

    def release(self, held: Held) -> None:
        """Forget a session, and give its place to one that waits."""
        held.verifier, held.holding = None, None
        self._ready.pop(held.key, None)
        self._used_s.pop(held.key, None)
        if self.held.pop(held.key, None) is not None:
            self._paging.release(held.key)
            self._turnover.ended((self._kernel.now_ms - held.opened_ms) / 1000)
        while self.alive and (waiting := self.waiting.next(self._has_place)) is not None:
            self.admit(waiting)

    def fits(self, held: Held) -> bool:
        """Say whether a session could run, if it were alone."""
        return held.prompt + held.output + self._agreed <= self._paging.blocks * BLOCK

    def receive(self, held: Held, message: Request) -> None:
        """Take a round of a session in."""
        held.receive(message, self._kernel.now_ms)
        self._offer(held)

    def fail(self) -> list[Held]:
        """Die; return the sessions that others are to take over. What the step that runs would have said is lost."""
        self.alive = False
        orphans = [*self.held.values(), *self.waiting.clear()]
        for held in orphans:
            held.verifier, held.holding = None, None
        self.held, self._ready = {}, {}
        return orphans

    # When to begin a step

    def _offer(self, held: Held) -> None:
        """Let a session take part in the next step if it could use one; begin that if nothing else is waited for."""
        if not held.waits:
            return
        self._ready[held.key] = held
        if not self._busy:
            self._busy = True
            self._idle_ms += self._kernel.now_ms - self._idle_since_ms
            self._plan(self._wait_ms())
        elif self._lingering:
            self._awaited.discard(held.key)
            if not self._awaited:
                self._plan(0.0)

    def _plan(self, wait_ms: float) -> None:
        """Begin a step then; what comes at the same moment joins it."""
        self._turn += 1
        self._lingering = wait_ms > 0
        self._kernel.after(wait_ms, self._begin, self._turn)

    def _wait_ms(self) -> float:
        """Return for how long rounds that are nearly here are waited for: where that serves more of them in a time."""
        if not self._lingers:
            return 0.0
        waiting = [1 + (held.pending[0].size if held.pending else 0) for held in self._ready.values() if held.asks]
        if not waiting:
            return 0.0
        now_s = self._kernel.now_ms / 1000
        due = [(left, held.key) for held in self.held.values() if (left := held.turnaround.due_s(now_s)) is not None]
        wait_s = self._steering.linger_s(waiting, [left for left, _ in due])
        self._awaited = {key for left, key in due if left <= wait_s}
        return 1000 * wait_s

    # Steps

    def _begin(self, turn: int) -> None:
        """Begin a step with whoever is ready."""
        if turn != self._turn or not self.alive:
            return
        self._lingering = False
        if not self._ready:
            self._busy, self._idle_since_ms = False, self._kernel.now_ms
            return
        step = self._next_step()
        if step is None:
            self._plan(1000 * ROOM_S)
            return
        wanted = step.measure()
        step.draft_ms = self._times.draft_ms(wanted) if wanted else 0.0
        pass_ms = self._times.step_ms(len(step.rows), step.positions, step.context, step.prefill)
        longer = self._times.longer(self._luck)
        step.draft_ms *= longer
        step.took_ms = step.draft_ms + longer * pass_ms
        self._kernel.after(step.took_ms, self._end, step)

    def _next_step(self) -> Step | None:
        """Return the step that the policies make of what is ready; None where there is no room for anybody."""
        now_s, ready = self._kernel.now_ms / 1000, self._ready
        asks = [held for held in ready.values() if held.asks]
        crowd = Counter(held.tenant for held in asks) if self._drafts or self._shared else None
        most = self._steering.own_windows(crowd) if crowd and self._drafts else {}
        rounds = {held.key: self._round(held, len(asks), most.get(held.tenant, 0)) for held in asks}
        works = [held.work(rounds.get(key)) for key, held in ready.items()]
        room = Residency(self._paging, self._used_s, self._tenure, now_s)
        shares = fill(self._order(works), self._budget, room)
        if room.evicted and self._record.measures(self._kernel.now_ms):
            self._record.evictions += len(room.evicted)
        rows = [(ready[one.session], one.prefill, rounds[one.session] if one.verify else None) for one in shares]
        if not rows:
            return None
        for share in shares:
            self._used_s[share.session] = now_s
        step = Step(self._kernel.now_ms, rows, len(asks))
        if self._shared:
            step.crowd = crowd
            verified = {share.session for share in shares if share.verify}
            self._fair.kept_waiting(ready[key].tenant for key in rounds if key not in verified)
        return step

    def _round(self, held: Held, asking: int, own_window: int) -> Round:
        """Return what a session that asks wants of a step that so many ask for; ``own_window`` pays for all."""
        if held.pending:
            several = len(held.pending) > 1
            windows = held.next_windows(self._merged_window(held, asking) if several else 0)
            return Round(windows, windows[-1].end - held.length)
        most = min(held.grant_choice.window, self._agreed, min(held.grant_end, held.told) - held.length - 1)
        if most <= 0:
            return Round((), 0)
        return Round((), min(most, self._steering.own_window(held.own_acceptance, asking, own_window)), most)

    def _merged_window(self, held: Held, asking: int) -> int:
        """Return how many tokens of several windows go into one step: no more than there is room for at all."""
        room = self._paging.blocks * BLOCK - held.prompt - held.length
        return min(self._steering.merged_window(held.acceptance, asking), room)

    def _end(self, step: Step) -> None:
        """Say what the step came to, and begin the next."""
        if not self.alive:
            return
        for held, prefill, verified in step.rows:
            if held.verifier is not self:
                continue
            if verified is not None:
                self._answer(held, verified, step)
            elif held.holding is not None:
                held.holding.cached += prefill
                held.fed = held.fed or not held.unfed
            if not held.waits:
                self._ready.pop(held.key, None)
        self._record.worked(step.started_ms, self._kernel.now_ms, len(step.rows), step.positions)
        if step.verified:
            self._learn(step)
        if self._between_ms:
            self._kernel.after(self._between_ms, self._go_on)
        else:
            self._go_on(None)

    def _go_on(self, _: object) -> None:
        """Begin the next step if anybody is ready for it."""
        if self._ready and self.alive:
            self._plan(self._wait_ms())
        else:
            self._busy, self._idle_since_ms = False, self._kernel.now_ms

    def _answer(self, held: Held, verified: Round, step: Step) -> None:
        """Commit a round and say so."""
        now_ms = self._kernel.now_ms
        verdict = judge(held, verified, step, now_ms)
        self._settled += 1
        held.length, held.fed = verdict.length, True
        verdict.kv_token_ms = held.keep(now_ms)
        if held.holding is not None:
            held.holding.cached = held.prompt + held.length - 1
        if verified.windows:
            held.branch += not verdict.keeps
            held.answered(verified.windows, now_ms)
        else:
            held.branch, held.part, held.since_ms = held.branch + 1, held.part + 1, now_ms
            if not held.granted:
                held.turnaround.answered_s = now_ms / 1000
            if verified.most:
                drafted = verdict.drafted, verdict.accepted, verdict.committed
                step.own[held.key] = OwnDraft(held.tenant, verified.wanted, *drafted)
        if self._accounts:
            held.learn(verdict)
        verdict.max_window = self._next_window(held, step) if self._steers else self._agreed
        held.ended = verdict.finished
        if held.ended:
            self.release(held)
        held.answer(verdict)

    def _next_window(self, held: Held, step: Step) -> int:
        """Return how far a session's device may draft next."""
        crowd = step.asking if step.crowd is None else self._fair.crowd(held.tenant, step.crowd)
        return self._steering.next_window(held.acceptance, self._agreed, step.asking, crowd)

    def _learn(self, step: Step) -> None:
        """Take in what a step took, and let each tenant's account have its part."""
        self.row_ms = moving_row_ms(self.row_ms, step.took_ms / step.verified)
        if not self._accounts:
            return
        drafts = step.drafts if step.own else NO_DRAFTS
        self._steering.take_in(len(step.rows), step.positions, step.took_ms, self._idle_ms, drafts)
        self._idle_ms = 0.0
        if self._shared:
            tenants = {held.key: held.tenant for held, _, _ in step.rows}
            for session, took_ms in self._steering.parts_ms(step.positions_of(), step.took_ms, drafts).items():
                self._fair.charge(tenants[session], took_ms)
            self._fair.prices = self._steering.prices(len(step.rows))
