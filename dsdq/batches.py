"""Files and batches as the API of OpenAI shows them. Pure.

https://platform.openai.com/docs/api-reference/files/object and .../batch/object have every field.
"""

from __future__ import annotations

import json
import secrets
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from dsdq.errors import ConfigError

WINDOWS_MS = {"24h": 86_400_000}
"""How long a batch may take, by what a request calls it."""

_ID_BYTES = 15
_SUMS = ("prompt_tokens", "completion_tokens", "judged_tokens", "accepted_tokens")


class Status(StrEnum):
    """Where a batch is. The last four are for good."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Say whether nothing will change any more."""
        return self in {Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED}


def fresh_file_id() -> str:
    """Return a file's id that nobody else has."""
    return f"file-{_random()}"


def fresh_batch_id() -> str:
    """Return a batch's id that nobody else has."""
    return f"batch_{_random()}"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known of a file. Times are seconds since 1970."""

    id: str
    size_bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str

    def document(self) -> dict[str, Any]:
        """Return OpenAI's File object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size_bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Return the file of a document."""
        found = json.loads(text)
        rest = {name: found[name] for name in ("id", "created_at", "expires_at", "filename", "purpose")}
        return cls(size_bytes=found["bytes"], **rest)


@dataclass(frozen=True, slots=True)
class Batch:
    """What is known of a batch.

    ``times`` has when it came to each status, in seconds since 1970, and its ``expires_at``.
    ``sums`` has the tokens of all answers so far: of prompts, generated, judged drafts, and those that stood.
    """

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    total: int
    completed: int
    failed: int
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, str] | None = None
    times: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, batch_id: str, fields: Mapping[bytes, bytes]) -> Self:
        """Return the batch of a hash."""
        found = {name.decode(): value.decode() for name, value in fields.items()}
        return cls(
            batch_id,
            found["endpoint"],
            found["input_file_id"],
            found["completion_window"],
            Status(found["status"]),
            total=int(found["total"]),
            completed=int(found["completed"]),
            failed=int(found["failed"]),
            output_file_id=found.get("output_file_id"),
            error_file_id=found.get("error_file_id"),
            errors=tuple(json.loads(found.get("errors", "[]"))),
            metadata=json.loads(found.get("metadata", "null")),
            times={name: int(value) for name, value in found.items() if name.endswith("_at")},
            sums={name: int(found.get(name, 0)) for name in _SUMS},
        )

    def document(self) -> dict[str, Any]:
        """Return OpenAI's Batch object."""
        moments = ("in_progress", "expires", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": list(self.errors)} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": str(self.status),
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.times["created_at"],
            **{f"{name}_at": self.times.get(f"{name}_at") for name in moments},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }

    @property
    def done(self) -> int:
        """Return how many lines have an entry in one of the files to be."""
        return self.completed + self.failed

    @property
    def acceptance_rate(self) -> float | None:
        """Return the accepted share of the draft tokens that were judged, None when none was."""
        judged = self.sums["judged_tokens"]
        return self.sums["accepted_tokens"] / judged if judged else None


def window_ms(text: str) -> int:
    """Return how long a batch may take.

    Raises:
        ConfigError: the window is none of :data:`WINDOWS_MS`.
    """
    if text not in WINDOWS_MS:
        raise ConfigError(f"completion_window: expected {', '.join(WINDOWS_MS)}, got {text!r}")
    return WINDOWS_MS[text]


def check_metadata(given: Mapping[str, str] | None) -> None:
    """Return when ``given`` may go with a batch: 16 pairs, keys of 64 characters, values of 512, at most.

    Raises:
        ConfigError: it may not.
    """
    pairs = (given or {}).items()
    if len(pairs) > 16 or not all(
        isinstance(value, str) and len(name) <= 64 and len(value) <= 512 for name, value in pairs
    ):
        raise ConfigError("metadata: expected at most 16 pairs of a key of 64 characters and a text of 512")


def _random() -> str:
    return b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()
