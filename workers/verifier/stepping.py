"""Step while anything is ready: choose rounds, run one forward, queue verdicts; a session that breaks it ends alone.

This module knows neither Redis nor leases: rounds come from the sessions, verdicts go to them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic

from dsdq.errors import DsdqError
from dsdq.policies.batching import ROOM_S
from dsdq.policies.routing import moving_row_ms
from dsdq.policies.steering import OwnDrafts, Steering
from dsdq.policies.window import MAX_DEPTH
from dsdq.session import Ahead, Live, liveness
from dsdq.telemetry.logs import get_logger
from dsdq.wire import Draft, ErrorCode, Gap
from workers.engine.planner import Planner, Request
from workers.engine.rounds import Judgement
from workers.engine.rows import Row
from workers.verifier import admission
from workers.verifier.blame import Blame
from workers.verifier.engine_thread import EngineThread
from workers.verifier.held import Held, Pending
from workers.verifier.sessions import Sessions
from workers.verifier.step import (
    Ready,
    Timing,
    conclude,
    fed_positions,
    is_superseded,
    own_drafts,
    positions_of,
    ready_rounds,
)

log = get_logger("verifier")

GAP_S = 0.2  # how long a round may be ahead of one that is missing before the device is asked for that
MOST_UNCOMMITTED = 256  # verdicts that may wait for their logs before the engine waits for them
MOST_FAILURES = 3
MOST_OVERDRAWN = 2 * MAX_DEPTH


class Stepper:
    """Steps the engine. ``work`` is set when a session could use a step.

    ``steps`` and ``rows`` count what was verified; ``row_ms`` is what one session's round took of a step of late.
    """

    def __init__(
        self,
        engine: EngineThread,
        planner: Planner,
        sessions: Sessions,
        blame: Blame,
        offer: admission.Offer,
        work: asyncio.Event,
        *,
        step_tokens: int,
        secret: int,
    ) -> None:
        self.work = work
        self.steps = 0
        self.rows = 0
        self.row_ms = 0.0
        self._engine = engine
        self._planner = planner
        self._sessions = sessions
        self._blame = blame
        self._offer = offer
        self._secret = secret
        self._steering = Steering(step_tokens, brief=engine.engine.brief)
        self._idle_s = 0.0  # before the next step
        self._stopping = False
        self._alone: deque[str] = deque()

    async def run(self) -> None:
        """Step until :meth:`stop`."""
        while not self._stopping:
            await self._wait_for_work()
            while not self._stopping and await self.step():
                await asyncio.sleep(0)  # a brief engine's pass has let nobody else run
                await self._sessions.commits.shorter_than(MOST_UNCOMMITTED)

    def stop(self) -> None:
        """Let the step that runs be the last."""
        self._stopping = True
        self.work.set()

    async def step(self) -> bool:
        """Run one forward for whoever is ready; say whether anybody was.

        Verdicts are queued for their logs, so that the next forward starts while they are written.
        """
        await self._linger()
        waiting = [held for held in self._sessions if held.pending or not held.fed]
        crowd = Counter(held.tenant for held in waiting if held.pending)
        own_windows = self._steering.own_windows(crowd) if self._engine.engine.drafts else {}
        ready = {held.key: self._next_ready(held, crowd.total(), own_windows) for held in waiting}
        started_s = monotonic()
        suspects = [one for one in ready.values() if self._blame.suspects(one)]
        requests = [one.request for one in suspects[:1] or ready.values() if self._sessions.holds(one.held)]
        rows = self._planner.plan(self._isolated(requests), started_s)
        if not rows:
            return self._wait_for_room(ready.values())
        verified = [ready[row.session] for row in rows if row.keep]
        begun = await self._blame.begin([ready[row.session] for row in rows], verified)
        judged = [one.judged for one in verified]
        try:
            judgements = await self._engine.verify(rows, judged, self._secret)
        except DsdqError:
            raise
        except Exception:
            log.exception("step failed", sessions=[row.session for row in rows])
            await self._suspect([ready[row.session].held for row in rows])
            return True
        timing = Timing(started_s, monotonic(), len(verified))
        for row in rows:
            self._note(ready[row.session].held, row)
        self._sessions.figures.stepped(rows, timing.took_s)
        positions, own = fed_positions(rows, verified, judgements), own_drafts(verified, judgements)
        self._charge(ready, positions, timing, own)
        await self._blame.passed(begun)
        if verified:
            self._steering.take_in(len(rows), sum(positions.values()), timing.took_ms, 1000 * self._idle_s, own)
            self._idle_s = 0.0
            self._count(timing)
            self._conclude(
                verified, judgements, timing, Counter(one.held.tenant for one in ready.values() if one.rounds)
            )
        return True

    def _charge(self, ready: Mapping[str, Ready], positions: Mapping[str, int], timing: Timing, own: OwnDrafts) -> None:
        """Let each tenant's account have what it got of a step's time."""
        for session, took_ms in self._steering.parts_ms(positions, timing.took_ms, own).items():
            self._planner.fair.charge(ready[session].held.tenant, took_ms)
        self._planner.fair.prices = self._steering.prices(len(positions))

    def _conclude(
        self, verified: Sequence[Ready], judgements: Sequence[Judgement], timing: Timing, waiting: Counter[str]
    ) -> None:
        """Queue the verdicts of a step that so many sessions of each tenant waited for."""
        outcomes = []
        for one, judgement in zip(verified, judgements, strict=True):
            crowd = self._planner.fair.crowd(one.held.tenant, waiting)
            agreed = one.held.state.contract.max_window
            next_window = self._steering.next_window(one.held.acceptance, agreed, waiting.total(), crowd)
            if self._is_frugal(one.held):
                next_window, one.held.overdrawn = 0, one.held.overdrawn + (bool(one.drafted) and not one.granted)
            else:
                one.held.overdrawn = 0
            outcomes.append(conclude(one, judgement, self._offer.eos_ids, timing, next_window))
        self._sessions.commit(outcomes)

    async def _linger(self) -> None:
        """Let rounds that are nearly here join the next step, where that serves more of them in a time."""
        if self._engine.engine.brief:  # nothing is saved
            return
        now_s = monotonic()
        waiting = [positions_of(held.pending[0].message) for held in self._sessions if held.pending]
        if not waiting:
            return
        due = [(left_s, held) for held in self._sessions if (left_s := held.turnaround.due_s(now_s)) is not None]
        until_s = now_s + self._steering.linger_s(waiting, [left_s for left_s, _ in due])
        awaited = [held for left_s, held in due if now_s + left_s <= until_s]
        while not self._stopping and any(self._sessions.holds(held) and not held.pending for held in awaited):
            try:
                async with asyncio.timeout(until_s - monotonic()):
                    await self._wait_for_work()
            except TimeoutError:
                return

    async def _wait_for_work(self) -> None:
        """Wait until a session could use a step; that is time that the verifier has left."""
        since_s = monotonic()
        try:
            await self.work.wait()
        finally:
            self._idle_s += monotonic() - since_s
        self.work.clear()

    def _note(self, held: Held, row: Row) -> None:
        """Take note of what a row has fed; what a verification has is noted with its verdict."""
        text, prompt_tokens = held.state.transcript.tokens, held.state.transcript.prompt_tokens
        held.fed_from(row.start)
        if row.start < prompt_tokens:
            self._sessions.figures.prompt += min(row.end - row.keep, prompt_tokens) - row.start
        held.fed = held.fed or bool(row.keep) or row.end >= len(text) - 1  # the last token is fed with its round
        if not row.keep and self._sessions.holds(held):
            self._planner.computed(row.session, text, row.end)

    def _count(self, timing: Timing) -> None:
        self.steps += 1
        self.rows += timing.batch_rows
        row_ms = 1000 * (timing.ended_s - timing.started_s) / timing.batch_rows
        self.row_ms = moving_row_ms(self.row_ms, row_ms)

    def _isolated(self, requests: Sequence[Request]) -> Sequence[Request]:
        """Return all requests, or, after a step that failed, one of those it had: whose fault it was is seen alone."""
        while self._alone:
            session = self._alone.popleft()
            if suspects := [one for one in requests if one.session == session]:
                return suspects
        return requests

    async def _suspect(self, helds: Sequence[Held]) -> None:
        """Try each of several sessions alone; end one that failed alone too often, and keep its round for people."""
        if len(helds) > 1:
            self._alone.extend(held.key for held in helds)
            return
        held = helds[0]
        held.failures += 1
        self._alone.append(held.key)
        if held.failures < MOST_FAILURES or not self._sessions.holds(held):
            return
        reason = f"the forward failed {MOST_FAILURES} times on it"
        culprit = held.pending.popleft().entry if held.pending else None
        self._sessions.fail(held, ErrorCode.INTERNAL, reason)
        if culprit is not None:
            await self._blame.put_away(culprit, reason, MOST_FAILURES)

    def _wait_for_room(self, ready: Iterable[Ready]) -> bool:
        """Look again soon if somebody waits for KV cache: time alone makes room."""
        if any(one.rounds for one in ready):
            asyncio.get_running_loop().call_later(ROOM_S, self.work.set)
        return False

    def _next_ready(self, held: Held, waiting: int, own_windows: Mapping[str, int]) -> Ready:
        """Return the session with its next live rounds; what is ahead, superseded or wrong is dealt with.

        It is one of so many that are ``waiting`` for the step. For its tenant's sessions the verifier itself may draft.
        """
        while held.pending:
            pending = held.pending[0]
            status = liveness(held.state, pending.message)
            if isinstance(status, Live) and not is_superseded(held):
                objection = admission.object_to(held.state.contract, pending.message) or self._overdraws(held)
                if objection is None:
                    most = 0 if self._is_frugal(held) else own_windows.get(held.tenant, 0)
                    own_window = self._steering.own_window(held.own_acceptance, waiting, most)
                    merged_window = self._steering.merged_window(held.acceptance, waiting)
                    return ready_rounds(held, status, self._offer.vocab_size, own_window, merged_window)
                self._sessions.fail(held, *objection)
                break
            held.pending.popleft()
            if isinstance(status, Ahead) and not held.gave_up(pending):
                self._set_aside(held, pending)
            else:
                self._sessions.commits.settle(held, [pending.entry])
        return Ready(held)

    def _overdraws(self, held: Held) -> tuple[ErrorCode, str] | None:
        """Return why a session that goes on drafting against its tenant's limit ends, as code and sentence.

        What was on its way when it was asked to draft no more is verified.
        """
        message = held.pending[0].message
        drafts = isinstance(message, Draft) and bool(message.tokens)
        if not drafts or held.overdrawn < MOST_OVERDRAWN or not self._is_frugal(held):
            return None
        expected = f"expected grants after {MOST_OVERDRAWN} verdicts that asked for them, got another draft"
        return ErrorCode.WINDOW_TOO_LARGE, f"tenant {held.tenant} has no verified positions left: {expected}"

    def _is_frugal(self, held: Held) -> bool:
        """Say whether drafts of a session are more than its tenant may have verified now."""
        return held.tenant in self._sessions.spending.frugal

    def _set_aside(self, held: Held, pending: Pending) -> None:
        """Keep a round whose predecessor is missing; should that not come soon, ask the device for it."""
        held.ahead.append(pending)
        asyncio.get_running_loop().call_later(GAP_S, self._miss, held, pending)

    def _miss(self, held: Held, pending: Pending) -> None:
        """Ask for what is missing before a round, if it still is: not where it is here and waits for a step."""
        if not self._sessions.holds(held) or pending not in held.ahead:
            return
        if held.first_ahead is pending and not held.pending:
            self._sessions.say(held, Gap(held.session, held.state.transcript.length))
        else:
            asyncio.get_running_loop().call_later(GAP_S, self._miss, held, pending)
