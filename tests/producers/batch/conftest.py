"""What tests of batch jobs share: a shop of files and batches on an empty Redis, and a runner that needs no service."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from dsdq.batches import Batch
from dsdq.bus.batches import BatchStore
from dsdq.bus.files import FileBounds, FileStore
from producers.batch.assembling import assemble
from producers.batch.preparing import prepare
from producers.batch.runner import Answer
from producers.openai.requests import COMPLETIONS


def request_of(custom_id: str, prompt: str = "x", **body: object) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": COMPLETIONS, "body": {"prompt": prompt, **body}}


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


@dataclass(slots=True)
class Shop:
    """Hands in batches and reads what became of them."""

    files: FileStore
    batches: BatchStore

    async def hand_in(self, lines: Iterable[dict[str, Any] | bytes], tenant: str = "acme") -> Batch:
        texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        content = _pieces(b"\n".join(texts))
        info = await self.files.add(tenant, content, filename="in.jsonl", purpose="batch")
        return await self.batches.create(tenant, input_file_id=info.id, endpoint=COMPLETIONS)

    async def prepared(self, lines: Iterable[dict[str, Any] | bytes], tenant: str = "acme") -> Batch:
        batch = await self.hand_in(lines, tenant)
        await prepare(self.files, self.batches, tenant, batch.id)
        return await self.batches.get(tenant, batch.id)

    async def assembled(self, batch: Batch, tenant: str = "acme") -> Batch:
        await assemble(self.files, self.batches, tenant, batch.id)
        return await self.batches.get(tenant, batch.id)

    async def entries(self, file_id: str | None, tenant: str = "acme") -> list[dict[str, Any]]:
        if file_id is None:
            return []
        content = b"".join([piece async for piece in self.files.read(tenant, file_id)])
        return [json.loads(line) for line in content.splitlines()]

    async def until(self, batch: Batch, *statuses: str, tenant: str = "acme") -> Batch:
        while (found := await self.batches.get(tenant, batch.id)).status not in statuses:
            await asyncio.sleep(0.02)
        return found


@dataclass(slots=True)
class Echo:
    """A runner that answers with what it was asked; ``held`` holds it up, ``began`` counts whom it was asked for."""

    held: asyncio.Event | None = None
    began: Counter[tuple[str, str]] = field(default_factory=Counter)
    cancelled: int = 0
    busy: int = 0
    most_busy: int = 0

    async def __call__(self, tenant: str, endpoint: str, body: dict[str, Any], seed: int) -> Answer:
        self.began[tenant, body["prompt"]] += 1
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            await (asyncio.sleep(0) if self.held is None else self.held.wait())
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.busy -= 1
        return Answer(200, {"text": f"{tenant} {endpoint} {body['prompt']} {seed}"})

    async def aclose(self) -> None:
        pass


@pytest.fixture
def shop(redis: Redis) -> Shop:
    return Shop(FileStore(redis, FileBounds(1 << 22, 1 << 22, 60_000)), BatchStore(redis, 60_000))


@pytest.fixture
def echo() -> Echo:
    return Echo()
