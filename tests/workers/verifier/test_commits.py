"""The queue before the logs: in order, together, again after a failure; and the engine does not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from dsdq.bus.inbox import Entry
from dsdq.bus.sessions import Commit, CommitStatus, Place, SessionStore
from dsdq.contract import Contract
from dsdq.errors import RedisUnavailableError
from dsdq.models.tokenizer import Tokenizer
from dsdq.wire import Decode, Verdict
from tests.conftest import Serve
from tests.workers.verifier.conftest import SETTINGS, Wire
from workers.verifier import commits as module
from workers.verifier.commits import Commits
from workers.verifier.held import Held

PLACE = Place("phone", "acme", "s1")


class Store:
    """Keeps what was committed; fails as often as it is told to, before or after it has taken a batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.failures = 0
        self.lost: dict[str, CommitStatus] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, commits: Sequence[Any]) -> list[CommitStatus]:
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise RedisUnavailableError("gone for a moment")
        if commits:
            self.batches.append(list(commits))
        return [self.lost.get(commit, CommitStatus.OK) for commit in commits]


class Inbox:
    def __init__(self) -> None:
        self.settled: list[str] = []

    async def settle(self, entries: Iterable[Entry]) -> None:
        self.settled += [entry.id for entry in entries]


def entry(name: str) -> Entry:
    return Entry("w1", "acme", name, {})


@pytest.fixture
def held() -> Held:
    return SimpleNamespace(session="s1", place=PLACE, lost=False)  # type: ignore[return-value]


@asynccontextmanager
async def running(store: Store, inbox: Inbox) -> AsyncIterator[Commits]:
    queue = Commits(store, inbox, lambda *_: [entry("left behind")], lambda _: None)  # type: ignore[arg-type]
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()


class Named(str):
    """Stands for a commit."""

    __slots__ = ("closes",)


def commit(name: str, *, closes: bool = False) -> Commit:
    named = Named(name)
    named.closes = closes
    return named  # type: ignore[return-value]


async def test_what_waits_is_appended_together_and_in_order(held: Held) -> None:
    store, inbox = Store(), Inbox()
    store.gate.clear()
    async with running(store, inbox) as queue:
        queue.add(held, commit("a"), [entry("1")])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for name in "bcd":
            queue.add(held, commit(name))
        queue.settle(held, [entry("2")])
        store.gate.set()
        await queue.shorter_than(1)
    assert store.batches == [["a"], ["b", "c", "d"]]
    assert inbox.settled == ["1", "2"]


async def test_a_commit_is_repeated_until_redis_answers(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    store, inbox = Store(), Inbox()
    store.failures = 3
    async with running(store, inbox) as queue:
        queue.add(held, commit("a"), [entry("1")])
        await queue.shorter_than(1)
    assert store.batches == [["a"]]
    assert inbox.settled == ["1"]


async def test_a_session_that_is_gone_is_given_up_with_its_entries(held: Held) -> None:
    store, inbox = Store(), Inbox()
    store.lost = {"a": CommitStatus.GONE}
    async with running(store, inbox) as queue:
        queue.add(held, commit("a"), [entry("1")])
        await queue.shorter_than(1)
    assert inbox.settled == ["left behind", "1"]


@pytest.mark.parametrize("status", [CommitStatus.FENCED, CommitStatus.BEHIND])
async def test_nothing_of_a_session_that_is_not_ours_any_more_is_acknowledged(held: Held, status: CommitStatus) -> None:
    store, inbox = Store(), Inbox()
    store.lost = {"a": status}
    store.gate.clear()
    async with running(store, inbox) as queue:
        queue.add(held, commit("a"), [entry("1")])
        queue.settle(held, [entry("2")])
        store.gate.set()
        await queue.shorter_than(1)
        queue.settle(held, [entry("3")])
        await queue.shorter_than(1)
    assert inbox.settled == ["left behind"]


async def test_the_end_of_a_session_is_known_until_it_is_in_the_log(held: Held) -> None:
    store, inbox = Store(), Inbox()
    store.gate.clear()
    async with running(store, inbox) as queue:
        queue.add(held, commit("a"))
        assert not queue.closes(PLACE)
        queue.add(held, commit("b", closes=True))
        assert queue.closes(PLACE)
        assert not queue.closes(Place("phone", "acme", "s2"))
        store.gate.set()
        await queue.shorter_than(1)
        assert not queue.closes(PLACE)


async def test_an_end_that_failed_ends_nothing(held: Held) -> None:
    store, inbox = Store(), Inbox()
    store.lost = {"a": CommitStatus.BEHIND}
    seen: list[bool] = []
    async with running(store, inbox) as queue:
        queue._on_lost = lambda *_: seen.append(queue.closes(PLACE)) or ()
        queue.add(held, commit("a", closes=True))
        await queue.shorter_than(1)
    assert seen == [False]


async def test_whoever_runs_ahead_too_far_waits(held: Held) -> None:
    store, inbox = Store(), Inbox()
    store.gate.clear()
    async with running(store, inbox) as queue:
        for name in "abc":
            queue.add(held, commit(name))
        waiting = asyncio.create_task(queue.shorter_than(3))
        await asyncio.sleep(0)
        assert not waiting.done()
        store.gate.set()
        await waiting


async def test_forwards_go_on_while_verdicts_are_written(
    serve: Serve, redis: Redis, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = str(tiny("llama"))
    fingerprint = Tokenizer.load(target).fingerprint
    contract = Contract("acme", "phone", "s1", target, fingerprint, max_tokens=30, ignore_eos=True)
    gate, write = asyncio.Event(), SessionStore.commit

    async def slow(store: SessionStore, commits: Sequence[Commit]) -> list[CommitStatus]:
        await gate.wait()
        return await write(store, commits)

    monkeypatch.setattr(SessionStore, "commit", slow)
    async with serve(target, **SETTINGS) as verifier:
        device = Wire(redis, verifier, contract, target)
        opened = await device.open()
        await device.send(Decode("s1", 0, 1, opened.length, opened.digest, budget=30))
        async with asyncio.timeout(30):
            while verifier._stepper.steps < 10:
                await asyncio.sleep(0.005)
        gate.set()
        text: list[int] = []
        while isinstance(message := await device.next(), Verdict):
            text += message.tokens
    assert text == device.own(30)
