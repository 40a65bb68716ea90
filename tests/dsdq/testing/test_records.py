"""Emulated devices on a real service: what is read of them afterwards is what they did."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import partial

from redis.asyncio import Redis

from dsdq.models.names import HASH_TARGET
from dsdq.testing.checker import check
from dsdq.testing.devices import EmulatedDevice, Habits
from dsdq.testing.hashed import decode
from dsdq.testing.history import History, Kind
from dsdq.testing.proxy import FaultProxy
from dsdq.testing.records import Publications, read_histories
from dsdq.wire import Decode, Draft
from tests.conftest import Serve

HABITS = [
    Habits("hash:0.7", window=4, most_tokens=24),
    Habits("none", most_tokens=24),
    Habits("random", most_tokens=24),
]
TEXTS = 3


async def histories_of_a_quiet_run(serve: Serve, redis: Redis, redis_url: str) -> list[History]:
    published = Publications()
    async with serve(HASH_TARGET), FaultProxy(redis_url, random.Random(1), on_request=published.hear) as proxy:
        devices = [EmulatedDevice(proxy.url, random.Random(n), habits) for n, habits in enumerate(HABITS)]

        def enough(device: EmulatedDevice) -> bool:
            return len(device.texts) == TEXTS

        await asyncio.gather(*(device.run(partial(enough, device)) for device in devices))
    return await read_histories(redis, published, [text for device in devices for text in device.texts], decode)


async def test_a_quiet_run_is_a_good_history(serve: Serve, redis: Redis, redis_url: str) -> None:
    histories = await histories_of_a_quiet_run(serve, redis, redis_url)
    assert len(histories) == TEXTS * len(HABITS)
    assert [finding for history in histories for finding in check(history)] == []
    assert all(history.device.finish_reason == "length" for history in histories)
    assert all(list(history.device.shown) == list(history.expected) for history in histories)
    kinds = {type(one) for history in histories for one in history.device.published}
    assert kinds == {Draft, Decode}


async def test_a_round_that_was_not_seen_on_the_wire_is_missed(serve: Serve, redis: Redis, redis_url: str) -> None:
    history = (await histories_of_a_quiet_run(serve, redis, redis_url))[0]
    fewer = replace(history, device=replace(history.device, published=history.device.published[1:]))
    assert [finding.kind for finding in check(fewer)] == [Kind.ROUND_UNKNOWN]
