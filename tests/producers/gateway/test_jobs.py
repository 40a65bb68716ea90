"""Files and batches by OpenAI's own client, from an upload to the results, done by a worker process."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from redis.asyncio import Redis

from dsdq.bus.tenants import TenantStore
from dsdq.models.names import HASH_TARGET
from dsdq.processes import spawn
from dsdq.tenants import Tenant, fresh_key
from dsdq.testing.hashed import decode
from tests.producers.batch.conftest import request_of
from tests.producers.gateway.conftest import OpenGateway, asking_at
from tests.producers.gateway.test_texts import TOKENIZER

WORKER = ("batch", "worker", "--draft", "hash:0.8")
ASKED: dict[str, Any] = {"model": HASH_TARGET, "max_tokens": 20, "temperature": 0}


def jsonl(*lines: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_a_batch_from_the_upload_to_its_results(client: openai.AsyncOpenAI, redis_url: str) -> None:
    lines = [request_of(f"line {number}", f"text {number}", **ASKED) for number in range(5)]
    bad = request_of("bad", "x", **ASKED, tools=[1])
    file = await client.files.create(file=("in.jsonl", jsonl(*lines, bad, "no request")), purpose="batch")
    batch = await client.batches.create(
        input_file_id=file.id, endpoint="/v1/completions", completion_window="24h", metadata={"for": "a test"}
    )
    command = ["env", "DSDQ_ALLOW_UNSAFE_REDIS=1", sys.executable, "-m", "dsdq", *WORKER, "--redis", redis_url]
    worker = await spawn(command, stdout=True)
    try:
        while (batch := await client.batches.retrieve(batch.id)).status not in {"completed", "failed"}:
            await asyncio.sleep(0.05)
    finally:
        await worker.stop()
    assert (batch.status, batch.metadata) == ("completed", {"for": "a test"})
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (5, 2)
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    done = [json.loads(line) for line in (await client.files.content(batch.output_file_id)).text.splitlines()]
    assert [one["custom_id"] for one in done] == [one["custom_id"] for one in lines]
    assert [one["response"]["body"]["choices"][0]["text"] for one in done] == [
        TOKENIZER.decode(decode(TOKENIZER.encode(f"text {number}"), 20)) for number in range(5)
    ]
    failed = [json.loads(line) for line in (await client.files.content(batch.error_file_id)).text.splitlines()]
    assert failed[0]["response"]["body"]["error"]["param"] == "tools"
    assert failed[1]["error"]["line"] == 7
    assert [one.id async for one in client.batches.list(limit=1)] == [batch.id]
    assert {one.id async for one in client.files.list()} == {file.id, batch.output_file_id, batch.error_file_id}
    assert [one.id async for one in client.files.list(purpose="batch")] == [file.id]
    pages = [one.id async for one in client.files.list(limit=1)]
    assert sorted(pages) == sorted((file.id, batch.output_file_id, batch.error_file_id))
    await client.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(file.id)


async def test_a_batch_can_be_cancelled_and_what_is_wrong_is_named(client: openai.AsyncOpenAI) -> None:
    file = await client.files.create(file=("in.jsonl", jsonl(request_of("a"))), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    wrong: list[dict[str, Any]] = [
        {"input_file_id": "file-nobodys"},
        {"endpoint": "/v1/embeddings"},
        {"completion_window": "1h"},
        {"metadata": {"k": "v" * 600}},
    ]
    right = {"input_file_id": file.id, "endpoint": "/v1/completions", "completion_window": "24h"}
    for change in wrong:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.post("/batches", body=right | change, cast_to=object)
        assert refused.value.param == next(iter(change))
    for missing in (client.batches.retrieve("batch_x"), client.batches.cancel("batch_x"), client.files.content("x")):
        with pytest.raises(openai.NotFoundError):
            await missing
    for path in ("/files?order=asc", "/files?limit=0", "/batches?limit=x", "/batches?status=failed"):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.get(path, cast_to=object)
        assert refused.value.param == path.partition("?")[2].partition("=")[0]
    with pytest.raises(openai.BadRequestError) as refused:
        await client.files.create(file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
    assert "expires_after" in refused.value.message
    with pytest.raises(openai.BadRequestError):
        await client.files.create(file=b"x", purpose="fine-tune")
    with pytest.raises(openai.BadRequestError):
        await client.post("/files", body={"purpose": "batch"}, cast_to=object)


async def test_nobody_sees_anothers_files(redis: Redis, open_gateway: OpenGateway) -> None:
    keys = dict[str, str]()
    for name in ("acme", "globex"):
        keys[name], key = fresh_key(name)
        await TenantStore(redis).add(Tenant(name=name, created=datetime.now(UTC), keys=(key,)))
    async with (
        open_gateway(file_bytes=1000, tenant_file_bytes=2000) as url,
        asking_at(url, keys["acme"]) as acme,
        asking_at(url, keys["globex"]) as globex,
    ):
        file = await acme.files.create(file=("in.jsonl", b"{}\n"), purpose="batch")
        batch = await acme.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
        for others in (
            globex.files.retrieve(file.id),
            globex.files.content(file.id),
            globex.batches.retrieve(batch.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await others
        assert [one async for one in globex.files.list()] == []
        with pytest.raises(openai.BadRequestError):
            await globex.files.create(file=("in.jsonl", b"x" * 1001), purpose="batch")
        with pytest.raises(openai.APIStatusError) as refused:
            await globex.files.create(file=("in.jsonl", b"x" * 100_000), purpose="batch")
        assert refused.value.status_code == 413
