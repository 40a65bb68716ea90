"""What a device knows of verifiers, for how long it relies on it, and whom it chooses by it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from dsdq.bus.registry import Registry, WorkerInfo
from dsdq.errors import ConfigError
from dsdq.policies.routing import shortest_queue
from producers.device import finding
from producers.device.finding import Directory, Finder
from producers.device.over_redis import RedisWay
from producers.device.sealer import Sealer

MODEL = "org/model"
INFO = WorkerInfo("w1", MODEL, "r", "f", MODEL, "float32", 100, 2048, 64, 8)
LEASE_MS = 60_000


class Clock:
    """Stands in for the monotonic clock of finding."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(finding, "monotonic", stopped)
    return stopped


@pytest.fixture
async def way(redis_url: str) -> AsyncIterator[RedisWay]:
    opened = RedisWay(redis_url, "default", Sealer("phone"), allow_unsafe=True)
    yield opened
    await opened.close()


@pytest.fixture
def finder(way: RedisWay, clock: Clock) -> Finder:
    del clock
    return Finder(Directory(way), shortest_queue(random.Random(1)), where="here", patience_ms=0, outage_ms=0)


async def serving(redis: Redis, *wids: str) -> None:
    for wid in wids:
        await Registry(redis).join(replace(INFO, wid=wid), LEASE_MS)
    await redis.config_resetstat()


async def looks(redis: Redis) -> int:
    """Return how often the registry was read since workers joined."""
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_hvals", {"calls": 0})["calls"])


async def found(finder: Finder, model: str | None = MODEL, *, anew: bool = False) -> str:
    return (await finder.find(model, b"", anew=anew)).worker.wid


@pytest.mark.parametrize(("wids", "kept_s"), [(("w1",), finding.ALONE_S), (("w1", "w2"), finding.CHOICE_S)])
async def test_what_was_seen_is_relied_upon_the_longer_the_less_there_is_to_choose(
    redis: Redis, finder: Finder, clock: Clock, wids: tuple[str, ...], kept_s: float
) -> None:
    await serving(redis, *wids)
    await found(finder)
    clock.now_s += 0.9 * kept_s
    await found(finder)
    assert await looks(redis) == 1
    clock.now_s += 0.2 * kept_s
    await found(finder)
    assert await looks(redis) == 2


async def test_who_looked_at_all_models_knows_each(redis: Redis, finder: Finder) -> None:
    await serving(redis, "w1")
    assert [await found(finder, None), await found(finder, MODEL), await found(finder, None)] == ["w1"] * 3
    assert await looks(redis) == 1


async def test_a_verifier_that_comes_is_seen_by_who_looks_anew(redis: Redis, finder: Finder, clock: Clock) -> None:
    await serving(redis, "w1")
    await found(finder)
    await Registry(redis).hand_over(INFO)
    await serving(redis, "w2")
    assert await found(finder) == "w1"
    clock.now_s += 0.01
    assert await found(finder, anew=True) == "w2"
    assert await found(finder) == "w2"


async def test_nothing_is_relied_upon_that_proved_wrong(redis: Redis, way: RedisWay, clock: Clock) -> None:
    await serving(redis, "w1")
    directory = Directory(way)
    await directory.workers(MODEL)
    clock.now_s += 0.01
    directory.doubt()
    for _ in range(2):
        await directory.workers(MODEL)
    assert await looks(redis) == 2


async def test_nobody_is_no_answer_to_rely_upon(redis: Redis, finder: Finder) -> None:
    with pytest.raises(ConfigError, match="found none"):
        await found(finder)
    await serving(redis, "w1")
    assert await found(finder) == "w1"


async def test_sessions_that_begin_at_once_take_one_look_and_do_not_herd(redis: Redis, finder: Finder) -> None:
    await serving(redis, "w1", "w2")
    chosen = await asyncio.gather(*(found(finder) for _ in range(10)))
    assert await looks(redis) == 1
    assert Counter(chosen) == {"w1": 5, "w2": 5}


async def test_what_was_sent_since_is_forgotten_once_the_registry_tells_of_it(
    redis: Redis, finder: Finder, clock: Clock
) -> None:
    await serving(redis, "w1", "w2")
    first, second = [await found(finder) for _ in range(2)]
    assert {first, second} == {"w1", "w2"}
    await Registry(redis).renew(replace(INFO, sessions=5), LEASE_MS)
    clock.now_s += 1
    assert {await found(finder) for _ in range(5)} == {"w2"}
