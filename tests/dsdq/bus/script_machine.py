"""The scripts on a real Redis beside a model in Python, in any order, with crashes and lost answers in between.

A crash needs no rule of its own: committing, settling, taking over and reading are steps by themselves, and whoever
stopped after any of them simply does nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from dsdq import keys
from dsdq.bus import scripts
from dsdq.bus.connection import open_redis
from dsdq.bus.dead import DeadLetters
from dsdq.bus.inbox import Bounds, Entry, Inbox, close_inboxes, left_behind
from dsdq.bus.publishing import publish
from dsdq.bus.sessions import CLOSED, OPEN, Commit, CommitStatus, LogEntry, Owned, SessionStore, place_of, read_entries
from dsdq.contract import Contract
from dsdq.errors import BusError, BusyError, GoneError

T = TypeVar("T")

TENANT, PRODUCER = "acme", "phone"
WORKERS = ("w1", "w2")
CONTRACTS = {name: Contract(TENANT, PRODUCER, name, "m", "f") for name in ("s1",)}
BOUNDS = Bounds(entries=4, kept=1, bytes_=100)
PROMPT_TOKENS, TTL_MS = 3, 600_000

RARELY = st.integers(0, 9).map(lambda number: number == 9)
worker_names, session_names = st.sampled_from(WORKERS), st.sampled_from(sorted(CONTRACTS))


@dataclass(frozen=True)
class Grip:
    """A session that one worker opened or took over; it may be another's by now."""

    worker: str
    owned: Owned


@dataclass
class View:
    """Where an owner thinks that its log ends: an owner appends in one order only."""

    entries: int
    length: int
    last: Commit | None = None


@dataclass
class Session:
    """What head and log should be."""

    head: dict[str, Any]
    log: list[LogEntry]
    lengths: list[int]

    def is_owned_by(self, owned: Owned) -> bool:
        return (self.head["epoch"], self.head["owner"]) == (owned.epoch, owned.owner)

    @property
    def is_open(self) -> bool:
        return bool(self.head["status"] == OPEN)


@dataclass
class Box:
    """What one worker's inbox should hold."""

    entries: dict[str, bytes] = field(default_factory=dict)
    delivered: set[str] = field(default_factory=set)
    closed: bool = False


class ScriptMachine(RuleBasedStateMachine):
    """Grips are never forgotten: any worker may come back with an old one."""

    url = ""
    grips: Bundle[Grip] = Bundle("grips")
    read_entries: Bundle[Entry] = Bundle("read_entries")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis = open_redis(self.url)
        self.sessions: dict[str, Session] = {}
        self.boxes = {worker: Box() for worker in WORKERS}
        self.highest = dict.fromkeys(CONTRACTS, 0)
        self.views: dict[str, View] = {}
        self.made = 0
        self.stores = {
            worker: SessionStore(self.redis, worker, feed_entries=10_000, open_ttl_ms=TTL_MS, closed_ttl_ms=TTL_MS)
            for worker in WORKERS
        }
        self.inboxes = {worker: Inbox(self.redis, worker, [TENANT], DeadLetters(self.redis)) for worker in WORKERS}

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(doing)

    def teardown(self) -> None:
        self.run(self.redis.aclose())
        self.loop.close()

    def message(self) -> bytes:
        self.made += 1
        return b"m%d" % self.made

    @initialize()
    def begin(self) -> None:
        self.run(self.redis.flushall())
        for inbox in self.inboxes.values():
            self.run(inbox.open(BOUNDS))

    # Opening

    @rule(target=grips, worker=worker_names, name=session_names)
    def open(self, worker: str, name: str) -> Any:
        contract, answer = CONTRACTS[name], self.message()
        opening = self.stores[worker].open(
            contract, length=PROMPT_TOKENS, digest=b"d", answer=answer, request=b"request"
        )
        owned = self.run(opening)
        assert (owned is None) == (name in self.sessions)
        if owned is None:
            if self.sessions[name].head["worker"] != worker or not self.sessions[name].is_open:
                self.run(self.stores[worker].disown(contract))
            return multiple()
        head = {"epoch": 1, "owner": owned.owner, "worker": worker, "length": PROMPT_TOKENS, "digest": "d"}
        head |= {"round": 0, "branch": 0, "status": OPEN, "entries": 1}
        self.sessions[name] = Session(head, [LogEntry(1, 1, answer, b"request")], [PROMPT_TOKENS])
        self.views[owned.owner] = View(1, PROMPT_TOKENS)
        return Grip(worker, owned)

    @rule(grip=grips)
    def open_again_because_the_answer_was_lost(self, grip: Grip) -> None:
        again = self.stores[grip.worker]._begin(grip.owned, OPEN, PROMPT_TOKENS, b"d", b"another", b"request")
        mine = self.sessions[grip.owned.contract.session].head["owner"] == grip.owned.owner
        assert self.run(again) == mine

    # Committing

    def committed(self, commit: Commit) -> CommitStatus:
        """Return what a commit should come to, and take it into the model."""
        session, appended = self.sessions[commit.owned.contract.session], len(commit.messages)
        head, ends = session.head, (session.head["entries"], session.head["length"])
        if not session.is_owned_by(commit.owned):
            return CommitStatus.FENCED
        if head["entries"] >= commit.entries + appended:
            return CommitStatus.DONE
        if not session.is_open:
            return CommitStatus.GONE
        if ends != (commit.entries, commit.expected_length):
            return CommitStatus.BEHIND
        for number, message in enumerate(commit.messages, commit.entries + 1):
            session.log.append(LogEntry(number, commit.owned.epoch, message))
            session.lengths.append(commit.length)
        head["entries"] += appended
        head["length"], head["round"], head["branch"] = commit.length, commit.round, commit.branch
        head["digest"], head["status"] = commit.digest.decode(), CLOSED if commit.closes else OPEN
        return CommitStatus.OK

    def write(self, grip: Grip, commit: Commit) -> CommitStatus:
        (status,) = self.run(self.stores[grip.worker].commit([commit]))
        assert status == self.committed(commit)
        return status

    @rule(grip=grips, tokens=st.integers(0, 2), appended=st.integers(1, 2), closes=RARELY)
    def commit(self, grip: Grip, tokens: int, appended: int, closes: bool) -> None:
        view = self.views[grip.owned.owner]
        commit = Commit(
            owned=grip.owned,
            entries=view.entries,
            expected_length=view.length,
            length=view.length + tokens,
            digest=b"d%d" % self.made,
            round=view.entries,
            branch=tokens,
            closes=closes and appended == 2,
            messages=[self.message() for _ in range(appended)],
        )
        if self.write(grip, commit) is CommitStatus.OK:
            self.views[grip.owned.owner] = View(view.entries + appended, commit.length, commit)

    @rule(grip=grips)
    def commit_again_because_the_answer_was_lost(self, grip: Grip) -> None:
        if (last := self.views[grip.owned.owner].last) is not None:
            self.write(grip, last)

    @rule(grip=grips, kept=st.integers(1, 3))
    def redis_loses_the_end_of_a_log(self, grip: Grip, kept: int) -> None:
        """Only of what the present owner wrote; Redis forgets heads and logs alike."""
        session = self.sessions[grip.owned.contract.session]
        head, place = session.head, place_of(grip.owned.contract)
        if not session.is_open or kept >= head["entries"] or session.log[kept - 1].epoch != head["epoch"]:
            return
        del session.log[kept:], session.lengths[kept:]
        head["entries"], head["length"] = kept, session.lengths[-1]
        ends = {"entries": kept, "length": head["length"]}

        async def lose() -> None:
            written = (await self.redis.xrange(place.log))[:kept]
            await self.redis.delete(place.log)
            for entry_id, fields in written:
                await self.redis.xadd(place.log, fields, id=entry_id)
            await self.redis.hset(place.head, mapping=ends)

        self.run(lose())

    # Taking over

    @rule(target=grips, name=session_names, former=worker_names, heir=worker_names)
    def take_over(self, name: str, former: str, heir: str) -> Any:
        place, session = place_of(CONTRACTS[name]), self.sessions.get(name)
        due = session is not None and session.is_open and session.head["worker"] in {former, heir}
        taken = self.run(self.stores[heir].take_over(place, former))
        assert (taken is not None) == due
        if taken is None or session is None:
            return multiple()
        head = session.head
        assert (taken.epoch, taken.entries) == (head["epoch"] + 1, head["entries"])
        assert (taken.round, taken.branch) == (head["round"], head["branch"])
        head |= {"epoch": taken.epoch, "owner": taken.owner, "worker": heir}
        assert self.run(read_entries(self.redis, place)) == session.log
        self.views[taken.owner] = View(taken.entries, head["length"])
        return Grip(heir, Owned(CONTRACTS[name], taken.epoch, taken.owner))

    @rule(grip=grips, former=worker_names)
    def take_over_again_because_the_answer_was_lost(self, grip: Grip, former: str) -> None:
        session = self.sessions[grip.owned.contract.session]
        if session.head["worker"] in {former, grip.worker} and session.head["owner"] != grip.owned.owner:
            return  # that would be a takeover
        arguments = [former, grip.worker, grip.owned.owner]
        place = place_of(grip.owned.contract)
        answer = self.run(scripts.call(self.redis, "takeover", [place.head], arguments))
        if not session.is_open:
            assert answer == [b"GONE"]
        elif session.head["owner"] != grip.owned.owner:
            assert answer == [b"OTHER"]
        else:
            head = session.head
            assert answer == [b"OK", head["epoch"], head["entries"], head["round"], head["branch"]]

    @rule(grip=grips)
    def leave_the_formers_set(self, grip: Grip) -> None:
        session = self.sessions[grip.owned.contract.session]
        if session.is_owned_by(grip.owned):
            for worker in WORKERS:
                if worker != grip.worker:
                    self.run(self.stores[grip.worker].moved(place_of(grip.owned.contract), worker))

    # Inboxes

    @rule(worker=worker_names, size=st.integers(1, 60), opens=st.booleans())
    def publish(self, worker: str, size: int, opens: bool) -> None:
        box, payload = self.boxes[worker], b"x" * size
        places, bytes_ = (BOUNDS.entries - BOUNDS.kept, 50) if opens else (BOUNDS.entries, BOUNDS.bytes_)
        full = len(box.entries) >= places or sum(map(len, box.entries.values())) + size > bytes_
        refusal = GoneError if box.closed else BusyError if full else None
        sending = publish(self.redis, worker, TENANT, payload, producer=PRODUCER, opens=opens)
        assert self.run(refused(sending)) is refusal
        if refusal is not None:
            return
        (newest,) = self.run(self.redis.xrevrange(keys.inbox(worker, TENANT), count=1))
        box.entries[newest[0].decode()] = payload

    @rule(target=read_entries, worker=worker_names, count=st.integers(1, 3))
    def read(self, worker: str, count: int) -> Any:
        box = self.boxes[worker]
        new = [entry_id for entry_id in box.entries if entry_id not in box.delivered][:count]
        entries = self.run(self.inboxes[worker].read(count, 1))
        assert [(one.id, one.payload) for one in entries] == [(entry_id, box.entries[entry_id]) for entry_id in new]
        box.delivered.update(new)
        return multiple(*entries)

    @rule(target=read_entries, worker=worker_names)
    def find_what_was_left(self, worker: str) -> Any:
        entries = self.run(self._left_behind(worker))
        assert {one.id: one.payload for one in entries} == self.boxes[worker].entries
        return multiple(*entries)

    async def _left_behind(self, worker: str) -> list[Entry]:
        return [one async for page in left_behind(self.redis, worker, [TENANT]) for one in page]

    @rule(entries=st.lists(read_entries, max_size=3))
    def settle(self, entries: list[Entry]) -> None:
        self.run(self.inboxes["w1"].settle(entries))
        for entry in entries:
            self.boxes[entry.worker].entries.pop(entry.id, None)

    @rule(entry=consumes(read_entries))
    def settle_twice(self, entry: Entry) -> None:
        self.settle([entry, entry])

    @rule(worker=worker_names, closes=RARELY)
    def close(self, worker: str, closes: bool) -> None:
        if not closes:
            return
        assert self.run(close_inboxes(self.redis, worker)) == [TENANT]
        self.boxes[worker].closed = True

    # What holds at any time

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        found = iter(self.run(self.everything()))
        for name, session in self.sessions.items():
            self.check_session(name, session, next(found), next(found))
        owned = {worker: next(found) for worker in WORKERS}
        for name, session in self.sessions.items():  # or nobody who inherits the worker would find it
            assert not session.is_open or str(place_of(CONTRACTS[name])).encode() in owned[session.head["worker"]]
        for box in self.boxes.values():
            assert {entry_id.decode(): fields[b"m"] for entry_id, fields in next(found)} == box.entries
            assert int(next(found) or 0) == sum(map(len, box.entries.values()))

    async def everything(self) -> list[Any]:
        """Return all that a model is compared with, in one round trip."""
        pipeline = self.redis.pipeline(transaction=False)
        for name in self.sessions:
            pipeline.hgetall(place_of(CONTRACTS[name]).head)
            pipeline.xrange(place_of(CONTRACTS[name]).log)
        for worker in WORKERS:
            pipeline.smembers(keys.worker_sessions(worker))
        for worker in WORKERS:
            pipeline.xrange(keys.inbox(worker, TENANT))
            pipeline.get(keys.inbox_bytes(worker, TENANT))
        return list(await pipeline.execute())

    def check_session(self, name: str, session: Session, head: Any, log: Any) -> None:
        """Compare head and log with the model; the log is numbered without a hole, and epochs never fall."""
        assert {key.decode(): value.decode() for key, value in head.items()} == {
            key: str(value) for key, value in session.head.items()
        }
        written = [(entry_id.decode(), int(fields[b"e"]), fields[b"m"]) for entry_id, fields in log]
        assert written == [(f"{number}-0", one.epoch, one.message) for number, one in enumerate(session.log, 1)]
        assert len(written) == session.head["entries"]
        epochs = [self.highest[name], *(one.epoch for one in session.log), session.head["epoch"]]
        assert epochs[1:] == sorted(epochs[1:])
        assert epochs[-1] >= epochs[0]
        self.highest[name] = epochs[-1]


async def refused(sending: Coroutine[Any, Any, None]) -> type[BusError] | None:
    """Return how a message was refused, None if it was not."""
    try:
        await sending
    except (BusyError, GoneError) as error:
        return type(error)
    return None
