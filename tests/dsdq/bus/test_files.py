"""Files on a real Redis: whole or not there, within their bounds, gone when they expire."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from dsdq import keys
from dsdq.batches import fresh_file_id
from dsdq.bus import files as module
from dsdq.bus.files import CHUNK_BYTES, FileBounds, FileStore
from dsdq.errors import ConfigError, QuotaError

BOUNDS = FileBounds(file_bytes=4 * CHUNK_BYTES, tenant_bytes=1 << 20, ttl_ms=60_000)


@pytest.fixture
def store(redis: Redis) -> FileStore:
    return FileStore(redis, BOUNDS)


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def add(store: FileStore, content: bytes, tenant: str = "acme") -> str:
    return (await store.add(tenant, pieces(content), filename="in.jsonl", purpose="batch")).id


async def read(store: FileStore, file_id: str, tenant: str = "acme") -> bytes:
    return b"".join([piece async for piece in store.read(tenant, file_id)])


def noise(size: int) -> bytes:
    return random.Random(1).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
async def test_a_file_is_read_as_it_was_given_whatever_its_pieces_were(store: FileStore, size: int) -> None:
    content = (noise(1000) * (size // 1000 + 1))[:size]
    given = pieces(content[:7], b"", content[7 : size // 2 + 7], content[size // 2 + 7 :])
    info = await store.add("acme", given, filename="in.jsonl", purpose="batch")
    assert await read(store, info.id) == content
    assert info.size_bytes == size
    assert info.expires_at - info.created_at == 60
    assert await store.get("acme", info.id) == info
    assert await store.newest("acme") == [info]


async def test_none_sees_anothers_file(store: FileStore) -> None:
    mine = await add(store, b"secret")
    assert await store.newest("globex") == []
    for work in (store.get("globex", mine), read(store, mine, "globex")):
        with pytest.raises(ConfigError, match="does not have"):
            await work
    assert not await store.delete("globex", mine)
    assert await read(store, mine) == b"secret"


async def test_a_file_that_is_too_large_leaves_nothing_behind(redis: Redis, store: FileStore) -> None:
    with pytest.raises(ConfigError, match="at most"):
        await add(store, bytes(BOUNDS.file_bytes + 1))
    assert await store.stored_bytes("acme") == 0
    assert await redis.keys("*") == [keys.stored_bytes("acme").encode()]


async def test_a_tenant_that_has_no_room_left_is_refused_and_has_some_again_when_it_deletes(store: FileStore) -> None:
    first = await add(store, noise(CHUNK_BYTES))
    with pytest.raises(QuotaError, match="delete some") as refused:
        await add(store, noise(CHUNK_BYTES + 1000))
    assert refused.value.limit == "tenant_file_bytes"
    assert 0 < refused.value.left < CHUNK_BYTES
    await add(store, noise(CHUNK_BYTES), "globex")
    assert await store.delete("acme", first)
    assert not await store.delete("acme", first)
    assert await store.stored_bytes("acme") == 0
    await add(store, noise(CHUNK_BYTES))


async def test_those_who_upload_at_once_have_no_more_room_than_one(store: FileStore) -> None:
    uploads = [add(store, noise(CHUNK_BYTES // 2)) for _ in range(8)]
    found = await asyncio.gather(*uploads, return_exceptions=True)
    assert sum(isinstance(one, str) for one in found) == 3
    assert sum(isinstance(one, QuotaError) for one in found) == 5
    assert await store.stored_bytes("acme") <= BOUNDS.tenant_bytes


async def test_an_upload_that_breaks_off_is_no_file_and_takes_no_room(store: FileStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield noise(CHUNK_BYTES)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.add("acme", broken(), filename="f", purpose="batch")
    assert await store.newest("acme") == []
    assert await store.stored_bytes("acme") == 0


async def test_what_has_expired_is_gone_and_counts_no_more(redis: Redis) -> None:
    store = FileStore(redis, FileBounds(1 << 20, 1 << 20, ttl_ms=1))
    old = await add(store, noise(1000))
    while await redis.exists(keys.file("acme", old)):
        await asyncio.sleep(0.01)
    with pytest.raises(ConfigError):
        await store.get("acme", old)
    assert await store.newest("acme") == []
    assert await store.stored_bytes("acme") > 0
    assert await store.purge("acme") == 1
    assert await store.stored_bytes("acme") == 0


async def test_an_upload_whose_process_died_is_purged(
    redis: Redis, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UPLOAD_MS", 1)
    await store._put_chunk("acme", fresh_file_id(), 0, b"part", 0)
    while await redis.zcount(keys.files("acme"), "-inf", int((await redis.time())[0]) * 1000 - 1000) == 0:
        await asyncio.sleep(0.05)
    assert await store.purge("acme") == 1
    assert await store.stored_bytes("acme") == 0


async def test_what_dsdq_made_is_written_once_counted_and_never_refused(redis: Redis) -> None:
    store, made = FileStore(redis, FileBounds(10, 10, 60_000)), fresh_file_id()
    first = await store.write("acme", made, pieces(noise(1000)), filename="out", purpose="batch_output")
    size = await store.stored_bytes("acme")
    assert size >= 1000
    again = await store.write("acme", made, pieces(b"another"), filename="out", purpose="batch_output")
    assert again == first
    assert await read(store, made) == noise(1000)
    assert await store.stored_bytes("acme") == size


async def test_a_chunk_that_is_written_twice_counts_once(store: FileStore) -> None:
    made = fresh_file_id()
    for _ in range(2):
        await store._put_chunk("acme", made, 0, noise(1000), 0)
    size = await store.stored_bytes("acme")
    assert 1000 <= size < 1100
