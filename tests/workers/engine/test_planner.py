"""Pool and scheduler together: whatever happens, a row reads what its own text says, and everybody finishes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dsdq.policies.batching import StepBudget, Tenure, first_in_first_out, like_lengths_together
from dsdq.policies.fairness import FairShare
from dsdq.policies.paging import BLOCK
from workers.engine.planner import Planner, Request
from workers.engine.rows import Row

BLOCKS = 12
LONGEST = 5 * BLOCK
PREFIXES = [random.Random(number).choices(range(100), k=4 * BLOCK) for number in range(2)]
ROUNDS = 3
BUDGET = StepBudget(window_tokens=40, prefill_tokens=100)


@dataclass
class Session:
    """A session as whoever serves it knows it: what it waits for, and how often it was answered."""

    salt: str
    text: list[int]
    drafted: tuple[int, ...] | None = None
    since_s: float = 0.0
    rounds: int = 0


@dataclass
class Memory:
    """What lies in each place of the pool: the text, with its tenant, that was current when it was written."""

    places: dict[tuple[int, int], tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def run(self, row: Row, session: Session) -> None:
        """Do what a forward does: write the row's tokens, and read all before them."""
        known = session.text[: row.start]
        for place, token in enumerate(row.tokens, row.start):
            known = [*known, token]
            self.places[row.blocks[place // BLOCK], place % BLOCK] = (session.salt, tuple(known))
        for place in range(row.end):
            found = self.places[row.blocks[place // BLOCK], place % BLOCK]
            assert found == (session.salt, tuple(known[: place + 1])), f"position {place} of {row.session}"


class PoolAndScheduler(RuleBasedStateMachine):
    """Sessions open, send rounds, are cancelled, while steps run and the clock goes on."""

    @initialize(shares=st.booleans(), seed=st.integers(0, 2**32), fifo=st.booleans())
    def begin(self, shares: bool, seed: int, fifo: bool) -> None:
        fair = FairShare(within=first_in_first_out if fifo else like_lengths_together)
        self.planner = Planner(BLOCKS, BUDGET, tenure=Tenure(1.0, 2.0), shares=shares, fair=fair)
        self.random = random.Random(seed)
        self.memory = Memory()
        self.sessions: dict[str, Session] = {}
        self.opened = 0
        self.now_s = 0.0

    @precondition(lambda self: len(self.sessions) < 8)
    @rule(
        salt=st.sampled_from("ab"), prefix=st.integers(0, 1), shared=st.integers(0, 4 * BLOCK), own=st.integers(1, 20)
    )
    def open(self, salt: str, prefix: int, shared: int, own: int) -> None:
        name, self.opened = f"s{self.opened}", self.opened + 1
        text = PREFIXES[prefix][:shared] + self.random.choices(range(100), k=own)
        self.planner.admit(name, salt)
        self.sessions[name] = Session(salt, text, since_s=self.now_s)

    @precondition(lambda self: any(one.drafted is None for one in self.sessions.values()))
    @rule(window=st.integers(0, 9), pick=st.integers(0, 7))
    def send(self, window: int, pick: int) -> None:
        idle = [one for one in self.sessions.values() if one.drafted is None]
        session = idle[pick % len(idle)]
        window = min(window, LONGEST - 1 - len(session.text))
        session.drafted, session.since_s = tuple(self.random.choices(range(100), k=window)), self.now_s

    @precondition(lambda self: self.sessions)
    @rule(pick=st.integers(0, 7))
    def cancel(self, pick: int) -> None:
        self.close(sorted(self.sessions)[pick % len(self.sessions)])

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.5]))
    def step(self, seconds: float) -> None:
        self.now_s += seconds
        requests = [Request(name, one.text, one.drafted, one.since_s) for name, one in self.sessions.items()]
        rows = self.planner.plan(requests, self.now_s)
        assert sum(row.keep for row in rows) <= BUDGET.window_tokens
        for row in rows:
            self.memory.run(row, self.sessions[row.session])
        for row in rows:
            self.conclude(row)

    def conclude(self, row: Row) -> None:
        session = self.sessions[row.session]
        if not row.keep:
            self.planner.computed(row.session, session.text, row.end)
            return
        assert session.drafted is not None
        assert row.keep == len(session.drafted) + 1
        accepted = self.random.randint(0, len(session.drafted))
        session.text += [*session.drafted[:accepted], self.random.randrange(100)]
        session.drafted, session.rounds = None, session.rounds + 1
        self.planner.computed(row.session, session.text, len(session.text) - 1)
        if session.rounds == ROUNDS or len(session.text) >= LONGEST - 1:
            self.close(row.session)

    def close(self, name: str) -> None:
        del self.sessions[name]
        self.planner.release(name)

    @invariant()
    def no_block_is_lost_or_counted_twice(self) -> None:
        if not hasattr(self, "planner"):
            return
        paging = self.planner.paging
        held = {block for session in paging for block in paging[session].blocks}
        assert len(held) == paging.held <= BLOCKS
        assert not held & (set(paging._free) | set(paging._left))
        assert len(paging._free) + len(paging._left) == paging.available

    def teardown(self) -> None:
        """Everybody finishes: the one that waits longest is served within its patience, whatever the others hold."""
        if not hasattr(self, "planner"):
            return
        for _ in range(400):
            if not self.sessions:
                break
            for session in self.sessions.values():
                if session.drafted is None:
                    session.drafted, session.since_s = (), self.now_s
            self.step(0.5)
        assert not self.sessions
        assert self.planner.paging.held == 0


PoolAndScheduler.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=100,  # 10,000 operations
)
test_pool_and_scheduler_survive_ten_thousand_operations = pytest.mark.timeout(200)(PoolAndScheduler.TestCase)


def test_a_session_larger_than_the_cache_does_not_fit() -> None:
    planner = Planner(4, BUDGET)
    assert planner.fits(4 * BLOCK)
    assert not planner.fits(4 * BLOCK + 1)


def test_a_busy_session_gets_no_row() -> None:
    planner = Planner(4, BUDGET)
    planner.admit("s", "")
    request = Request("s", [1, 2, 3], (), 0.0)
    assert planner.plan([request], 0.0, busy=["s"]) == []
    (row,) = planner.plan([request], 0.0)
    assert (row.start, row.tokens, row.keep) == (0, (1, 2, 3), 1)


def test_a_shared_prefix_is_not_fed_again() -> None:
    planner = Planner(8, BUDGET)
    text = list(range(70))
    for session in "ab":
        planner.admit(session, "acme")
    (row,) = planner.plan([Request("a", text, (), 0.0)], 0.0)
    planner.computed("a", text, row.end)
    (row,) = planner.plan([Request("b", text, (), 0.0)], 0.0)
    assert (row.start, row.tokens) == (BLOCK, tuple(text[BLOCK:]))
