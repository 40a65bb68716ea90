"""What a demo device tells its parent: one JSON line per event on standard output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from dsdq.client import TokenKind


@dataclass(frozen=True, slots=True)
class Began:
    """A device is connected and sends its first prompts now."""

    device: int


@dataclass(frozen=True, slots=True)
class Spoke:
    """A committed token of prompt number ``prompt``."""

    device: int
    prompt: int
    text: str
    kind: TokenKind


@dataclass(frozen=True, slots=True)
class Finished:
    """Prompt number ``prompt`` is done: its token ids and what they cost (fields of ``GenerationStats``)."""

    device: int
    prompt: int
    prompt_ids: list[int]
    ids: list[int]
    stats: dict[str, float | list[float]]


@dataclass(frozen=True, slots=True)
class Failed:
    """A device gave up, and why."""

    device: int
    message: str


Event = Began | Spoke | Finished | Failed
_KINDS: dict[str, type[Event]] = {"began": Began, "spoke": Spoke, "finished": Finished, "failed": Failed}


def to_line(event: Event) -> str:
    """Return the event as one line of JSON."""
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)})


def from_line(line: str) -> Event:
    """Return the event of one line that :func:`to_line` made."""
    fields = json.loads(line)
    return _KINDS[fields.pop("event")](**fields)
