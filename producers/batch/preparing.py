"""From an input file to lines to do. Whoever dies on the way, the next one goes on where it was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from dsdq.batches import Status
from dsdq.bus.batches import BatchStore, Kind
from dsdq.bus.files import FileStore
from dsdq.errors import ConfigError
from producers.batch.lines import MOST_LINES, Fault, Request, Splitter, digest_of, fault_entry, read_line

AT_ONCE, AT_ONCE_BYTES = 200, 1 << 20
"""Lines of one call, and bytes after which it goes out."""

Line = tuple[int, Kind, bytes]


async def prepare(files: FileStore, batches: BatchStore, tenant: str, batch_id: str) -> None:
    """Read a batch's input and let its lines be done; a batch that cannot begin fails, with the reason."""
    fields = await batches.fields(tenant, batch_id)
    endpoint, input_id = (fields[name].decode() for name in (b"endpoint", b"input_file_id"))
    count = good = 0
    try:
        async for lines in _groups(_checked(files, tenant, input_id, batch_id, endpoint)):
            count += len(lines)
            good += sum(kind == "good" for _, kind, _ in lines)
            if count > MOST_LINES:
                await _fail(batches, tenant, batch_id, "too_many_tasks", f"expected at most {MOST_LINES} lines")
                return
            if not await batches.add_lines(tenant, batch_id, lines):
                return
    except ConfigError as error:
        await _fail(batches, tenant, batch_id, "invalid_file", str(error))
        return
    if not count:
        await _fail(batches, tenant, batch_id, "empty_file", "expected a request on each line, got an empty file")
    elif good:
        await batches.move(tenant, batch_id, Status.IN_PROGRESS, [Status.VALIDATING])
    else:
        over = {"frozen": 1, "outcome": Status.COMPLETED}
        await batches.move(tenant, batch_id, Status.FINALIZING, [Status.VALIDATING], over)


async def _checked(files: FileStore, tenant: str, input_id: str, batch_id: str, endpoint: str) -> AsyncIterator[Line]:
    seen = set[bytes]()
    async for number, line in _lines(files, tenant, input_id):
        if not line.strip():
            continue
        found = read_line(line, endpoint)
        if isinstance(found, Request):
            digest = digest_of(found.custom_id)
            if digest not in seen:
                seen.add(digest)
                yield number, "good", found.pack()
                continue
            found = Fault("duplicate_custom_id", "custom_id: expected one that no line before has", found.custom_id)
        yield number, "bad", fault_entry(batch_id, number, found)


async def _lines(files: FileStore, tenant: str, input_id: str) -> AsyncIterator[tuple[int, bytes]]:
    splitter = Splitter()
    async for piece in files.read(tenant, input_id):
        for numbered in splitter.feed(piece):
            yield numbered
    for numbered in splitter.finish():
        yield numbered


async def _groups(lines: AsyncIterator[Line]) -> AsyncIterator[list[Line]]:
    group, size = list[Line](), 0
    async for line in lines:
        group.append(line)
        size += len(line[2])
        if len(group) >= AT_ONCE or size >= AT_ONCE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


async def _fail(batches: BatchStore, tenant: str, batch_id: str, code: str, message: str) -> None:
    errors = json.dumps([{"code": code, "message": message, "line": None, "param": None}])
    await batches.move(tenant, batch_id, Status.FAILED, [Status.VALIDATING], {"errors": errors})
