"""Verifiers are replaced one by one, as in an upgrade, while devices generate: nobody notices more than a pause."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis

from dsdq.models.names import HASH_TARGET
from dsdq.testing.checker import check
from dsdq.testing.devices import EmulatedDevice, Habits, Text
from dsdq.testing.hashed import decode
from dsdq.testing.killer import Killer, Victim
from dsdq.testing.proxy import FaultProxy
from dsdq.testing.records import Publications, read_histories
from dsdq.wire import Opened

VERIFIERS = 2
HABITS = (
    Habits("hash:0.8:5", window=4, least_tokens=48),
    Habits("none", least_tokens=48),
    Habits("random", least_tokens=48),
)
DEVICES = 9
LATEST_S = 120


def command(url: str) -> list[str | Path]:
    serve = ["verifier", "--redis", url, "--target", HASH_TARGET]
    return ["env", "DSDQ_HASH_STEP_MS=10", sys.executable, "-m", "dsdq", *serve]


async def started(killer: Killer) -> Victim:
    victim = await killer.start()
    assert await victim.until_ready()
    return victim


async def next_texts_shown(devices: Sequence[EmulatedDevice]) -> None:
    """Wait until every device is in the middle of a text that it has not begun yet."""
    before = [len(device.texts) for device in devices]
    while not all(len(one.texts) > count and one.texts[-1].shown for one, count in zip(devices, before, strict=True)):
        await asyncio.sleep(0.01)


async def test_replacing_every_verifier_loses_no_round(redis: Redis, redis_url: str) -> None:
    published, done = Publications(), False
    async with (
        asyncio.timeout(LATEST_S),
        FaultProxy(redis_url, random.Random(1), on_request=published.hear) as proxy,
        Killer(command(redis_url)) as killer,
    ):
        old = [await started(killer) for _ in range(VERIFIERS)]
        devices = [EmulatedDevice(proxy.url, random.Random(n), HABITS[n % len(HABITS)]) for n in range(DEVICES)]
        running = [asyncio.create_task(device.run(lambda: done)) for device in devices]
        for victim in old:
            await next_texts_shown(devices)
            victim.terminate()
            await victim.wait()
            await started(killer)
        await next_texts_shown(devices)
        done = True
        await asyncio.gather(*running)
        assert killer.exits == {0: VERIFIERS}
    texts: list[Text] = [text for device in devices for text in device.texts]
    histories = await read_histories(redis, published, texts, decode)
    assert [text.error for text in texts if text.error] == []
    assert [finding for history in histories for finding in check(history)] == []
    assert len(histories) == len(texts)
    assert all(list(history.device.shown) == list(history.expected) for history in histories)
    moved = [history for history in histories if sum(isinstance(one.message, Opened) for one in history.entries) > 1]
    assert moved, "no session was handed over"
