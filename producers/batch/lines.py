"""From the lines of an input file to what is to be done, and from what became of it to the lines of two files. Pure.

https://platform.openai.com/docs/guides/batch has the formats.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from dsdq.bus.batches import Claim, Entry
from producers.batch.runner import Answer

MOST_LINES = 50_000
LINE_BYTES = 1 << 20
MOST_CUSTOM_ID = 512
GOOD = range(200, 300)


@dataclass(frozen=True, slots=True)
class Request:
    """What one good line asks for."""

    custom_id: str
    body: dict[str, Any]

    def pack(self) -> bytes:
        """Return it as it waits in Redis."""
        return zlib.compress(json.dumps([self.custom_id, self.body], separators=(",", ":")).encode(), 1)

    @classmethod
    def unpack(cls, packed: bytes) -> Request:
        """Return what :meth:`pack` packed."""
        return cls(*json.loads(zlib.decompress(packed)))


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line is not done; ``custom_id`` where it has one."""

    code: str
    message: str
    custom_id: str | None = None


@dataclass(slots=True)
class Splitter:
    """Cuts pieces of a file into its lines, numbered from 1. Of one that is too long, only the beginning is kept."""

    number: int = 0
    _held: bytearray = field(default_factory=bytearray)

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that this piece completes."""
        *complete, rest = piece.split(b"\n")
        for part in complete:
            self._hold(part)
            yield from self.finish(always=True)
        self._hold(rest)

    def finish(self, *, always: bool = False) -> Iterator[tuple[int, bytes]]:
        """Yield the last line, which no end of line follows, unless it is empty."""
        if self._held or always:
            self.number += 1
            line = bytes(self._held)
            self._held.clear()
            yield self.number, line

    def _hold(self, part: bytes) -> None:
        self._held += part[: LINE_BYTES + 1 - len(self._held)]


def read_line(line: bytes, endpoint: str) -> Request | Fault:
    """Return what a line asks for, or why it asks for nothing."""
    if len(line) > LINE_BYTES:
        return Fault("line_too_long", f"expected at most {LINE_BYTES} bytes, got more")
    found = _object(line)
    if found is None:
        return Fault("invalid_json", "expected a JSON object on each line")
    custom_id = found.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MOST_CUSTOM_ID:
        return Fault("invalid_custom_id", f"custom_id: expected a text of 1 to {MOST_CUSTOM_ID} characters")
    expected = {"method": "POST", "url": endpoint}
    for name, value in expected.items():
        if found.get(name) != value:
            return Fault(f"invalid_{name}", f"{name}: expected {value!r}, got {_short(found.get(name))}", custom_id)
    if not isinstance(found.get("body"), dict):
        return Fault("invalid_body", "body: expected an object", custom_id)
    return Request(custom_id, found["body"])


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def digest_of(custom_id: str) -> bytes:
    """Return 16 bytes that no other ``custom_id`` of a batch has."""
    return blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def seed_of(batch_id: str, custom_id: str) -> int:
    """Return the seed of a line whose body names none: what is done again says the same."""
    return int.from_bytes(_hash(batch_id, custom_id, 8), "little")


def entry_of(claim: Claim, request: Request, answer: Answer) -> Entry:
    """Return the entry of what a runner answered; all but 2xx goes to the error file."""
    response = {"status_code": answer.status, "request_id": _id(claim.batch, request.custom_id), "body": answer.body}
    text = _entry(claim.batch, request.custom_id, response, None)
    return Entry(answer.status in GOOD, text, _costs(answer.body))


def fault_entry(batch_id: str, line: int, fault: Fault) -> bytes:
    """Return the error file's entry of a line that no runner was asked about; compressed, as all entries wait."""
    name = fault.custom_id if fault.custom_id is not None else f"line {line}"
    error = {"code": fault.code, "message": f"line {line}: {fault.message}", "line": line}
    return _entry(batch_id, name, None, error, shown=fault.custom_id)


def unpack_entry(packed: bytes) -> bytes:
    """Return an entry as it stands in its file, with its end of line."""
    return zlib.decompress(packed)


def _entry(
    batch_id: str, name: str, response: dict[str, Any] | None, error: dict[str, Any] | None, *, shown: str | None = ""
) -> bytes:
    custom_id = name if shown == "" else shown
    found = {"id": _id(batch_id, name), "custom_id": custom_id, "response": response, "error": error}
    return zlib.compress(json.dumps(found, separators=(",", ":")).encode() + b"\n", 1)


def _costs(body: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens that an answer says it cost, as far as it does."""
    places = {
        "prompt_tokens": "usage",
        "completion_tokens": "usage",
        "judged_tokens": "metrics",
        "accepted_tokens": "metrics",
    }
    found = {name: (body.get(place) or {}).get(name) for name, place in places.items()}
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _id(batch_id: str, name: str) -> str:
    return f"batch_req_{_hash(batch_id, name, 12).hex()}"


def _hash(batch_id: str, custom_id: str, size: int) -> bytes:
    text = json.dumps([batch_id, custom_id]).encode()
    return blake2b(text, digest_size=size, person=b"dsdq-batch-line").digest()


def _short(value: object) -> str:
    return repr(value)[:80]
