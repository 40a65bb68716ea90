"""What a verifier tells Prometheus: a real process, asked over HTTP, beside what its texts' own statistics say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

import dsdq
from dsdq import keys
from dsdq.bus.embedded import free_port
from dsdq.errors import ConfigError
from dsdq.models.names import HASH_TARGET
from dsdq.settings import Settings
from dsdq.testing.killer import Killer
from tests.conftest import Serve
from workers.verifier.assembly import assemble
from workers.verifier.metrics import LABELS, METRICS, NAMES, PREFIX, Distribution

LATEST_S = 60
TEXTS = (("hash:0.8", 40), ("hash:0.3", 30), ("none", 20))
Samples = dict[tuple[str, str], float]


def command(url: str, port: int, **changed: object) -> list[str]:
    settings = {"DSDQ_METRICS_PORT": port, "DSDQ_ALLOW_UNSAFE_REDIS": 1, **changed}
    return [
        "env",
        *(f"{name}={value}" for name, value in settings.items()),
        *(sys.executable, "-m", "dsdq", "verifier", "--redis", url, "--target", HASH_TARGET),
    ]


async def get(port: int, path: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


def samples(page: str) -> Samples:
    """Return each sample's value, by its name and its own label."""
    return {
        (one.name.removeprefix(PREFIX), own_label(one.labels)): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


def own_label(labels: Mapping[str, str]) -> str:
    return "".join(value for name, value in labels.items() if name not in LABELS)


async def until_counted(port: int, generated: float) -> Samples:
    while True:
        found = samples((await get(port, "/metrics"))[1])
        if found.get(("generation_tokens_total", "")) == generated:
            return found
        await asyncio.sleep(0.05)


async def texts(url: str) -> tuple[int, int, int]:
    """Let texts be generated; return what their statistics say: tokens, draft tokens, and how many of those stood."""
    generated = drafted = accepted = 0
    async with dsdq.connect(url) as client:
        for number, (draft, tokens) in enumerate(TEXTS):
            window = {} if draft == "none" else {"window": 4}
            one = client.generate([number, 2, 3], draft=draft, max_tokens=tokens, ignore_eos=True, **window)
            assert len([token async for token in one]) == tokens
            generated += one.stats.committed_tokens
            drafted += one.stats.drafted_tokens
            accepted += one.stats.accepted_tokens
    return generated, drafted, accepted


async def test_a_verifiers_metrics_say_what_its_texts_say(redis_url: str) -> None:
    port = free_port()
    async with asyncio.timeout(LATEST_S), Killer(command(redis_url, port)) as killer:
        assert await (await killer.start()).until_ready()
        assert (await get(port, "/health"))[0] == 200
        assert samples((await get(port, "/metrics"))[1])["verifier_serving", ""] == 1
        assert (await get(port, "/elsewhere"))[0] == 404
        generated, drafted, accepted = await texts(redis_url)
        found = await until_counted(port, generated)
    assert found["spec_decode_num_draft_tokens_total", ""] == drafted > 0
    assert found["spec_decode_num_accepted_tokens_total", ""] == accepted > 0
    by_position = [found["spec_decode_num_accepted_tokens_per_pos_total", str(one)] for one in range(64)]
    assert sum(by_position) == accepted
    assert by_position == sorted(by_position, reverse=True)
    assert found["spec_decode_num_drafts_total", ""] >= by_position[0]
    assert found["request_success_total", "length"] == len(TEXTS)
    assert found["request_success_total", "error"] == 0
    assert found["tenant_generation_tokens_total", "default"] == generated
    assert found["prompt_tokens_total", ""] == 2 * len(TEXTS)  # a prompt's last token goes with the first round
    assert found["num_requests_running", ""] == found["num_requests_waiting", ""] == 0
    assert found["iteration_rows_count", ""] == found["iteration_rows_sum", ""] > 0  # they came one after another
    assert found["iteration_rows_bucket", "1.0"] == found["iteration_rows_bucket", "+Inf"]
    assert found["iteration_seconds_count", ""] == found["iteration_rows_count", ""]


async def test_every_metric_that_is_named_is_there_and_no_other(serve: Serve) -> None:
    port = free_port()
    async with serve(HASH_TARGET, metrics_port=port, allow_unsafe_redis=True):
        families = list(text_string_to_metric_families((await get(port, "/metrics"))[1]))
    assert sorted(one.name for one in families) == sorted(name.removesuffix("_total") for name in NAMES)
    kinds = {one.name: one.type for one in families}
    for metric in METRICS:
        name = (PREFIX + metric.name).removesuffix("_total")
        counts = "counter" if metric.name.endswith("_total") else "gauge"
        assert kinds[name] == ("histogram" if isinstance(metric, Distribution) else counts)


async def test_counters_go_on_and_health_comes_back_when_a_verifier_begins_anew(redis: Redis, redis_url: str) -> None:
    port, lease_ms = free_port(), 2_000
    killing = Killer(command(redis_url, port, DSDQ_LEASE_MS=lease_ms))
    async with asyncio.timeout(LATEST_S), killing as killer:
        victim = await killer.start()
        assert await victim.until_ready()
        before, *_ = await texts(redis_url)
        await until_counted(port, before)
        (first,) = [name.decode() for name in await redis.zrange(keys.workers(HASH_TARGET), 0, -1)]
        await redis.zadd(keys.workers(HASH_TARGET), {first: 1}, xx=True)  # it learns of it at its next heartbeat
        while first in victim.said:
            await asyncio.sleep(0.05)
        again, *_ = await texts(redis_url)
        found = await until_counted(port, before + again)
        assert found["request_success_total", "length"] == 2 * len(TEXTS)
        page = (await get(port, "/metrics"))[1]
        assert first not in page
        assert (await get(port, "/health"))[0] == 200
        assert len(killer.running) == 1


async def test_health_is_bad_while_a_verifier_starts_and_when_its_lease_is_lost(redis_url: str) -> None:
    port = free_port()
    chosen = Settings(redis_url=redis_url, metrics_port=port, allow_unsafe_redis=True, lease_ms=20_000)
    async with assemble(redis_url, HASH_TARGET, "cpu", "float32", chosen) as make:
        verifier, ready, stop = make(), asyncio.Event(), asyncio.Event()
        assert (await get(port, "/health"))[0] == 503
        assert samples((await get(port, "/metrics"))[1]) == {("verifier_serving", ""): 0}
        serving = asyncio.create_task(verifier.run(stop, ready))
        await ready.wait()
        assert (await get(port, "/health"))[0] == 200
        verifier._sessions.figures.alive_until_s = 0.0  # as after a lease without a heartbeat
        assert (await get(port, "/health"))[0] == 503
        stop.set()
        await serving
    with pytest.raises(URLError):
        await get(port, "/health")


async def test_a_port_that_is_taken_or_a_package_that_is_missing_is_said(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = urlsplit(redis_url).port or 0
    chosen = Settings(redis_url=redis_url, metrics_port=taken, allow_unsafe_redis=True)
    with pytest.raises(ConfigError, match=rf"DSDQ_METRICS_PORT.*127\.0\.0\.1:{taken}.*in use"):
        async with assemble(redis_url, HASH_TARGET, "cpu", "float32", chosen):
            pass
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "workers.verifier.exposition")
    monkeypatch.delattr("workers.verifier.exposition")
    with pytest.raises(ConfigError, match=r"prometheus_client.*dsdq\[metrics\]"):
        async with assemble(redis_url, HASH_TARGET, "cpu", "float32", chosen):
            pass
