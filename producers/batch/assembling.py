"""From what became of a batch's lines to its two files, in the order of its input.

Nothing of it changes any more, and files are written once: whoever dies on the way, the next one writes the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from dsdq.batches import Status
from dsdq.bus.batches import BatchStore
from dsdq.bus.files import FileStore
from producers.batch.lines import Fault, Request, fault_entry, unpack_entry

PAGE = 200
_ENDING = (Status.FINALIZING, Status.CANCELLING)
_LEFT = {
    Status.CANCELLED: ("batch_cancelled", "the batch was cancelled before this line was done"),
    Status.EXPIRED: ("batch_expired", "the batch's window was over before this line was done"),
}


async def assemble(files: FileStore, batches: BatchStore, tenant: str, batch_id: str) -> None:
    """Write the files of a batch that is over, and end it."""
    if not await batches.freeze(tenant, batch_id):
        return
    fields = await batches.fields(tenant, batch_id)
    outcome, last = Status(fields[b"outcome"].decode()), int(fields[b"prepared"])
    written = {}
    sides: tuple[Literal["output", "error"], ...] = ("output", "error")
    for side in sides:
        file_id = fields[f"{side}_id".encode()].decode()
        content = (
            _results(batches, tenant, batch_id, last)
            if side == "output"
            else _errors(batches, tenant, batch_id, last, outcome)
        )
        name = f"{batch_id}_{side}.jsonl"
        info = await files.write(tenant, file_id, content, filename=name, purpose="batch_output")
        if info.size_bytes:
            written[f"{side}_file_id"] = file_id
        else:
            await files.delete(tenant, file_id)
    await batches.move(tenant, batch_id, outcome, _ENDING, written)


async def _results(batches: BatchStore, tenant: str, batch_id: str, last: int) -> AsyncIterator[bytes]:
    for numbers in _pages(last):
        for entry in await batches.entries(tenant, batch_id, "results", numbers):
            if entry is not None:
                yield unpack_entry(entry)


async def _errors(batches: BatchStore, tenant: str, batch_id: str, last: int, outcome: Status) -> AsyncIterator[bytes]:
    for numbers in _pages(last):
        entries = await batches.entries(tenant, batch_id, "errors", numbers)
        left = await batches.entries(tenant, batch_id, "lines", numbers)
        for number, entry, work in zip(numbers, entries, left, strict=True):
            if entry is not None:
                yield unpack_entry(entry)
            elif work is not None:
                code, message = _LEFT[outcome]
                fault = Fault(code, message, Request.unpack(work).custom_id)
                yield unpack_entry(fault_entry(batch_id, number, fault))


def _pages(last: int) -> list[range]:
    return [range(first, min(first + PAGE, last + 1)) for first in range(1, last + 1, PAGE)]
