"""Tenants' files: compressed chunks in Redis, bounded for each file and each tenant, gone when they expire."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis

from dsdq import keys
from dsdq.batches import FileInfo, fresh_file_id
from dsdq.bus import scripts
from dsdq.bus.connection import translated
from dsdq.errors import ConfigError, QuotaError
from dsdq.settings import Settings

CHUNK_BYTES = 1 << 19
UPLOAD_MS = 3_600_000  # between two chunks of one file
LEVEL = 1  # zlib's fastest: a file is written once and read once or twice
MOST_NAME = 512


@dataclass(frozen=True, slots=True)
class FileBounds:
    """How much a file may have, how much a tenant's files may take in Redis, and how long one is kept."""

    file_bytes: int
    tenant_bytes: int
    ttl_ms: int

    @classmethod
    def of(cls, chosen: Settings) -> FileBounds:
        """Return those that an operator chose."""
        return cls(chosen.file_bytes, chosen.tenant_file_bytes, chosen.file_ttl_ms)


class FileStore:
    """The files of all tenants; none sees another's."""

    def __init__(self, redis: Redis, bounds: FileBounds) -> None:
        self._redis = redis
        self._bounds = bounds

    async def add(self, tenant: str, content: AsyncIterable[bytes], *, filename: str, purpose: str) -> FileInfo:
        """Keep a file that a tenant sends, and return what is known of it. One that is refused leaves nothing behind.

        Raises:
            ConfigError: it is larger than a file may be.
            QuotaError: the tenant's other files leave no room for it.
        """
        file_id = fresh_file_id()
        await self.purge(tenant)
        try:
            size, count = await self._put(tenant, file_id, content, bounded=True)
        except BaseException:
            await self.delete(tenant, file_id)
            raise
        return await self._seal(tenant, file_id, filename, purpose, size, count)

    async def write(
        self, tenant: str, file_id: str, content: AsyncIterable[bytes], *, filename: str, purpose: str
    ) -> FileInfo:
        """Keep what dsdq itself made, under an id that is known before, once: again it changes nothing.

        It counts among what the tenant has stored, but is never refused: what was computed is not thrown away.
        """
        size, count = await self._put(tenant, file_id, content, bounded=False)
        return await self._seal(tenant, file_id, filename, purpose, size, count)

    async def get(self, tenant: str, file_id: str) -> FileInfo:
        """Return what is known of a file.

        Raises:
            ConfigError: the tenant has none of that id.
        """
        with translated():
            found = await self._redis.hget(keys.file(tenant, file_id), "meta")
        if found is None:
            raise _missing(file_id)
        return FileInfo.read(found)

    async def newest(self, tenant: str) -> list[FileInfo]:
        """Return all files of a tenant, the newest first."""
        with translated():
            ids = [one.decode() for one in await self._redis.zrange(keys.files(tenant), 0, -1)]
            pipeline = self._redis.pipeline(transaction=False)
            for one in ids:
                pipeline.hget(keys.file(tenant, one), "meta")
            found = await pipeline.execute() if ids else []
        infos = [FileInfo.read(one) for one in found if one is not None]
        return sorted(infos, key=lambda one: (-one.created_at, one.id))

    async def read(self, tenant: str, file_id: str) -> AsyncIterator[bytes]:
        """Yield a file's content, piece by piece.

        Raises:
            ConfigError: the tenant has none of that id, or it has gone meanwhile.
        """
        place = keys.file(tenant, file_id)
        with translated():
            count = await self._redis.hget(place, "count")
        if count is None:
            raise _missing(file_id)
        for number in range(int(count)):
            with translated():
                chunk = await self._redis.hget(place, str(number))
            if chunk is None:
                raise _missing(file_id)
            yield await asyncio.to_thread(zlib.decompress, chunk)

    async def delete(self, tenant: str, file_id: str) -> bool:
        """Delete a file and say whether there was one."""
        return bool(await self._drop(tenant, keys.file(tenant, file_id).rpartition(":")[2]))

    async def purge(self, tenant: str) -> int:
        """Take what has expired out of the account, and return how many files that were."""
        return await self._drop(tenant, "")

    async def stored_bytes(self, tenant: str) -> int:
        """Return what a tenant's files take in Redis."""
        with translated():
            return int(await self._redis.get(keys.stored_bytes(tenant)) or 0)

    async def _drop(self, tenant: str, file_id: str) -> int:
        places = [keys.files(tenant), keys.file_sizes(tenant), keys.stored_bytes(tenant)]
        with translated():
            return int(await scripts.call(self._redis, "file_drop", places, [file_id]))

    async def _put(self, tenant: str, file_id: str, content: AsyncIterable[bytes], *, bounded: bool) -> tuple[int, int]:
        """Write the chunks; return the bytes of the content, and how many chunks it has."""
        size = count = 0
        async for piece in _in_chunks(content):
            size += len(piece)
            if bounded and size > self._bounds.file_bytes:
                raise ConfigError(f"file: expected at most {self._bounds.file_bytes} bytes, got more")
            await self._put_chunk(tenant, file_id, count, piece, self._bounds.tenant_bytes if bounded else 0)
            count += 1
        return size, count

    async def _put_chunk(self, tenant: str, file_id: str, number: int, piece: bytes, most: int) -> None:
        packed = await asyncio.to_thread(zlib.compress, piece, LEVEL)
        places = [keys.files(tenant), keys.file_sizes(tenant), keys.stored_bytes(tenant), keys.file(tenant, file_id)]
        with translated():
            fits = await scripts.call(self._redis, "file_put", places, [file_id, number, packed, UPLOAD_MS, most])
        if not fits:
            left = max(0, most - await self.stored_bytes(tenant))
            msg = f"tenant {tenant}: its files may take {most} bytes compressed, {left} are left; delete some"
            raise QuotaError(msg, limit="tenant_file_bytes", left=left, retry_after_ms=-1)

    async def _seal(self, tenant: str, file_id: str, name: str, purpose: str, size: int, count: int) -> FileInfo:
        with translated():
            now_ms = int((await self._redis.time())[0]) * 1000
        expires_ms = now_ms + self._bounds.ttl_ms
        info = FileInfo(file_id, size, now_ms // 1000, expires_ms // 1000, name[:MOST_NAME], purpose)
        places = [keys.files(tenant), keys.file(tenant, file_id)]
        with translated():
            meta = await scripts.call(
                self._redis, "file_seal", places, [file_id, json.dumps(info.document()), count, expires_ms]
            )
        return FileInfo.read(meta)


async def _in_chunks(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in pieces of ``CHUNK_BYTES``; only the last is shorter."""
    held = bytearray()
    async for piece in content:
        held += piece
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


def _missing(file_id: str) -> ConfigError:
    return ConfigError(f"expected the id of a file, got {file_id!r}, which this tenant does not have (any more)")
