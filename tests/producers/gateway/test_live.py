"""What watching pages are told: totals and one's own tenant; one reader for all of them, and none for nobody."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from dsdq.bus.embedded import EmbeddedRedis
from dsdq.bus.figures import FiguresStore, Reading
from dsdq.bus.tenants import TenantStore
from dsdq.models.names import HASH_TARGET
from dsdq.tenants import Tenant, fresh_key
from dsdq.testing.killer import Killer
from producers.gateway import live
from tests.conftest import Serve
from tests.producers.gateway.conftest import OpenGateway, asking_at, gateway_at

LATEST_S = 60
Events = AsyncIterator[dict[str, Any]]


@asynccontextmanager
async def asked(url: str, key: str = "none") -> AsyncIterator[tuple[int, Events]]:
    """Ask to watch; give the status of the answer, and what each event says."""
    place = urlsplit(url)
    async with asyncio.timeout(LATEST_S):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(f"GET /live HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
            status = int((await reader.readline()).split()[1])
            yield status, (json.loads(line[6:]) async for line in reader if line.startswith(b"data: "))
        finally:
            writer.close()


@asynccontextmanager
async def watching(url: str, key: str = "none") -> AsyncIterator[Events]:
    """Watch, and give what each event says."""
    async with asked(url, key) as (status, events):
        assert status == 200
        yield events


async def first(events: Events, wanted: Callable[[dict[str, Any]], object] = lambda _: True) -> dict[str, Any]:
    async for one in events:
        if wanted(one):
            return one
    raise AssertionError("it ended")


def readers() -> int:
    """Return how many tasks read figures."""
    return sum("Live._read" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def added(redis: Redis, *names: str) -> list[str]:
    """Add tenants and return their keys."""
    made = {name: fresh_key(name) for name in names}
    for name, (_, record) in made.items():
        await TenantStore(redis).add(Tenant(name=name, created=datetime.now(UTC), keys=(record,)))
    return [key for key, _ in made.values()]


async def test_a_tenant_sees_totals_and_itself_and_nothing_of_others(
    serve: Serve, open_gateway: OpenGateway, redis: Redis
) -> None:
    mine, theirs = await added(redis, "acme", "globex")
    serving = serve(HASH_TARGET, allow_unsafe_redis=True, hash_step_ms=10)
    async with serving as verifier, open_gateway() as url, asking_at(url, mine) as asking:
        text = await asking.completions.create(model=HASH_TARGET, prompt=[1, 2, 3], max_tokens=2000, stream=True)
        async with watching(url, mine) as own, watching(url, theirs) as other:
            busy = await first(own, lambda one: one["tenant"]["tokens_per_s"] and one["acceptance"])
            seen = await first(other, lambda one: one["tokens_per_s"])
        await text.close()
    assert busy["tenant"] == {"tenant": "acme", "sessions": 1, "tokens_per_s": busy["tokens_per_s"]}
    assert seen["tenant"] == {"tenant": "globex", "sessions": 0, "tokens_per_s": 0.0}
    assert "acme" not in json.dumps(seen)
    assert (seen["verifiers"], seen["sessions"]) == (1, 1)
    assert [one["worker"] for one in seen["workers"]] == [verifier.info.wid]
    assert set(seen) == {
        *("verifiers", "sessions", "waiting", "tokens_per_s", "steps_per_s", "acceptance", "rows_per_step"),
        *("workers", "tenant"),
    }


async def test_who_has_no_key_or_loses_it_sees_nothing(open_gateway: OpenGateway, redis: Redis) -> None:
    (key,) = await added(redis, "acme")
    async with open_gateway() as url:
        async with asked(url) as (status, _):
            assert status == 401
        async with watching(url, key) as events:
            assert (await first(events))["tenant"]["tenant"] == "acme"
            record = (await TenantStore(redis).all())["acme"]
            await TenantStore(redis).change("acme", lambda _: record.model_copy(update={"enabled": False}))
            told = [one async for one in events]  # until it ends
    assert told[-1]["error"]["code"] == "tenant_disabled"


async def test_there_is_one_reader_for_all_who_watch_and_none_for_nobody(open_gateway: OpenGateway) -> None:
    async with open_gateway() as url:
        assert readers() == 0
        for _ in range(2):
            async with watching(url) as one, watching(url) as other, watching(url) as third:
                for events in (one, other, third):
                    assert (await first(events))["verifiers"] == 0
                assert readers() == 1
            async with asyncio.timeout(LATEST_S):
                while readers():
                    await asyncio.sleep(0.01)


async def test_no_more_pages_watch_than_may_and_a_place_is_given_back(
    open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_OF_ONE", 2)
    async with open_gateway() as url:

        async def status() -> int:
            async with asked(url) as (found, _):
                return found

        async with watching(url) as one, watching(url) as other:
            await first(one)
            await first(other)
            assert await status() == 503
        async with asyncio.timeout(LATEST_S):
            while await status() != 200:
                await asyncio.sleep(0.01)


async def test_while_redis_is_away_that_is_said_and_then_it_goes_on() -> None:
    server = EmbeddedRedis(port=0)
    await server.start()
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    async with gateway_at(server.url, allow_unsafe_redis=True) as url, watching(url) as events:
        assert (await first(events))["verifiers"] == 0
        await server.stop()
        assert "redis" in (await first(events, lambda one: "error" in one))["error"]["message"]
        async with EmbeddedRedis(port=port):
            assert (await first(events, lambda one: "error" not in one))["verifiers"] == 0


async def test_a_reading_that_fails_is_said_and_the_next_is_made(
    open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, failed = FiguresStore.read, asyncio.Event()

    async def once(store: FiguresStore) -> Reading:
        if not failed.is_set():
            failed.set()
            raise TypeError("an entry of another release")
        return await read(store)

    monkeypatch.setattr(FiguresStore, "read", once)
    async with open_gateway() as url, watching(url) as events:
        assert "error" in await first(events)
        assert (await first(events, lambda one: "error" not in one))["verifiers"] == 0


async def test_a_gateway_that_ends_waits_for_nobody_who_watches(redis_url: str) -> None:
    command = [sys.executable, "-m", "dsdq", "gateway", "--redis", redis_url, "--port", "0", "--draft", "ngram"]
    async with asyncio.timeout(LATEST_S), Killer(["env", "DSDQ_DRAIN_MS=600000", *command]) as killer:
        gateway = await killer.start()
        assert await gateway.until_ready()
        async with watching(gateway.said.split()[1]) as events:
            await first(events)
            gateway.terminate()
            async for _ in events:  # until it ends
                pass
            await gateway.wait()
